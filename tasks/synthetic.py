"""Synthetic financial headlines whose class and score are known exactly.

Words alone do not give them away: direction has to be combined with the sign of the metric, read
from two figures, turned round by negation, weighed across clauses, or kept apart from what is
said about another company. The annotator's noise is added on top, so the best reachable figures
are known too.
"""

import hashlib
import math
import random
import re

import pandas as pd

from dao.learner.kinds.base import SPLITS
from tasks.grammar import headline
from tasks.lexicon import SUFFIXES, SYLLABLES
from tasks.speaker import LIMIT, STYLES

__all__ = ["CLASSES", "companies", "headlines", "limits"]

CLASSES = ("negative", "neutral", "positive")
PLACEHOLDERS = ("<A>", "<B>", "<C>")
NEUTRAL = 0.1
"""Scores smaller than this are neutral."""
SHARES = (0.73, 0.10, 0.17)
"""About the shares of the rows in train, validation and test."""
LARGEST_ERROR = 1 - LIMIT
"""Largest error of the annotator's score: the score then stays within [-1, 1]."""


def headlines(
    rows: int = 6000, seed: int = 0, *, label_noise: float = 0.03, score_noise: float = 0.08
) -> pd.DataFrame:
    """Write headlines.

    A skeleton, the text without companies and figures, lies in one split, and so does a company.
    About 73 % of the rows are for training, 10 % for validation and 17 % for test, which is
    worth more rows because it costs nothing to label them here.

    Args:
        rows: Number of headlines.
        seed: Seed of everything drawn.
        label_noise: Probability that the annotator picks another class, any of them alike.
        score_noise: Standard deviation of the annotator's error on the score before errors
            beyond 0.2 are ruled out.

    Returns:
        Columns id, text, label, score, clean_label, clean_score (before the noise), template
        (of the skeleton), split and domain ("headline" or "report", the style). The best
        expected accuracy is 1 - label_noise and the lowest mean squared error is that of
        `limits`.
    """
    rng = random.Random(f"headlines/{seed}")
    noise = random.Random(f"annotator/{seed}")
    pools = {split: companies(split) for split in SPLITS}
    records: dict[str, dict[str, object]] = {}
    while len(records) < rows:
        domain = rng.choice(STYLES)
        clause = headline(rng, domain)
        template = hashlib.sha256(skeleton(clause.text).encode()).hexdigest()[:12]
        split = _split_of(template)
        text = clause.text
        for placeholder, name in zip(PLACEHOLDERS, rng.sample(pools[split], 3), strict=True):
            text = text.replace(placeholder, name)
        if text not in records:
            records[text] = {
                "id": f"synthetic-{len(records)}",
                "text": text,
                **_annotated(clause.score, noise, label_noise, score_noise),
                "template": template,
                "split": split,
                "domain": domain,
            }
    return pd.DataFrame(list(records.values()))


def limits(label_noise: float = 0.03, score_noise: float = 0.08) -> dict[str, dict[str, float]]:
    """The best figures that any model can expect of each column: those of the noise-free truth.

    The error is a normal variable x of standard deviation s, kept within +-b. With a = b / s and
    the standard normal density phi and distribution Phi, its variance is
    s^2 (1 - 2 a phi(a) / (2 Phi(a) - 1)).

    Example:
        >>> limits()["label"]["accuracy"], round(limits()["score"]["mse"], 5)
        (0.97, 0.00583)
    """
    mse = 0.0
    if score_noise > 0:
        a = LARGEST_ERROR / score_noise
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        mse = score_noise**2 * (1 - 2 * a * density / math.erf(a / math.sqrt(2)))
    return {"label": {"accuracy": 1 - label_noise}, "score": {"mse": mse}}


def companies(split: str) -> list[str]:
    """Invented companies of one split; no other split has any of them."""
    rng = random.Random("companies")
    names: dict[str, None] = {}
    while len(names) < 900:
        stem = "".join(rng.choices(SYLLABLES, k=rng.choice((2, 3)))).capitalize()
        names[stem] = None
    # Stems are distinct, so "Kalo Oyj" and "Kalo AG" cannot be told apart across splits.
    start = SPLITS.index(split) * 300
    return [stem + rng.choice(SUFFIXES) for stem in list(names)[start : start + 300]]


def skeleton(text: str) -> str:
    """The text with every figure masked."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def _split_of(template: str) -> str:
    """The split of a skeleton, the same for every seed, so two sets never share one either."""
    place = int(template, 16) / 16 ** len(template)
    return SPLITS[0 if place < SHARES[0] else 1 if place < SHARES[0] + SHARES[1] else 2]


def _annotated(
    truth: float, rng: random.Random, label_noise: float, score_noise: float
) -> dict[str, object]:
    """Class and score of a headline, with and without the annotator's noise."""
    truth = round(truth, 3)
    label = CLASSES[0 if truth <= -NEUTRAL else 2 if truth >= NEUTRAL else 1]
    error = rng.gauss(0, score_noise)
    while abs(error) > LARGEST_ERROR:
        error = rng.gauss(0, score_noise)
    slip = rng.random() < label_noise
    other = rng.choice([name for name in CLASSES if name != label])
    return {
        "label": other if slip else label,
        "score": round(truth + error, 3),
        "clean_label": label,
        "clean_score": truth,
    }
