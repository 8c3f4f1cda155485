"""Who the clauses of the synthetic headlines are about, and in which style they are told."""

import random
from dataclasses import dataclass

from tasks.lexicon import CURRENCIES, METRICS, PERIODS, VERBS, Metric, Verb

__all__ = ["LIMIT", "STYLES", "Clause", "Speaker", "money", "percentage", "plural", "size"]

LIMIT = 0.8
"""Largest size of a score."""
STYLES = ("headline", "report")
"""Present tense without articles; past tense in full sentences."""
GOOD_SHARE = 0.78  # companies talk of profit more than of churn
STRONG = 0.4


@dataclass(frozen=True)
class Clause:
    """Words about a company and the score that follows from them alone."""

    text: str
    score: float


@dataclass(frozen=True)
class Speaker:
    """Draws words about one company in one style.

    Args:
        rng: Source of the choices.
        style: One of `STYLES`.
        company: How the company is named: "<A>", "rival <B>", or "it" if named before.
    """

    rng: random.Random
    style: str
    company: str

    @property
    def brief(self) -> bool:
        """Whether the style is that of a headline."""
        return self.style == "headline"

    def metric(self, unit: str = "") -> Metric:
        """Any metric, or one of a unit."""
        sign = 1 if self.rng.random() < GOOD_SHARE else -1
        return self.rng.choice([m for m in METRICS if m.sign == sign and unit in ("", m.unit)])

    def strong_verb(self) -> Verb:
        """A verb that can be hedged, denied or compared and still say something."""
        fitting = [v for v in VERBS if abs(v.change) >= STRONG and "almost" not in v.base]
        return self.rng.choice(fitting)

    def owned(self, metric: Metric) -> str:
        """The metric of this company, as subject of a sentence."""
        if self.company == "it":
            return f"its {metric.words}"
        forms = [f"{self.company}'s {metric.words}", f"{metric.words} at {self.company}"]
        if self.brief:
            forms.append(f"{self.company} {metric.words}")
        else:
            forms.append(f"the {metric.words} of {self.company}")
        return self.rng.choice(forms)

    def inflected(self, verb: Verb, metric: Metric) -> str:
        """The verb in the tense of the style, agreeing with the metric."""
        if not self.brief:
            return verb.past
        return verb.base if plural(metric) else verb.third

    def period(self) -> str:
        """A time or place, or nothing."""
        return f" {self.rng.choice(PERIODS)}" if self.rng.random() < 0.5 else ""


def plural(metric: Metric) -> bool:
    """Whether the metric takes a plural verb."""
    return metric.words.endswith("s") and not metric.words.endswith("ss")


def size(percent: float) -> float:
    """Size of the news in a change by so many per cent: 0.15 for next to none, LIMIT from 40."""
    return min(LIMIT, 0.15 + 0.65 * percent / 40)


def percentage(rng: random.Random) -> float:
    """A change in per cent: small, middling or large."""
    return round(rng.uniform(*rng.choice([(1, 5), (6, 15), (18, 60)])), rng.choice((0, 1)))


def money(rng: random.Random) -> str:
    """A sum of money."""
    return rng.choice(CURRENCIES).format(round(rng.choice((1, 10, 60)) * rng.uniform(1, 15), 1))
