"""Whole headlines from clauses: one or two of them, about one or two companies."""

import random

from tasks.clauses import fact, news
from tasks.lexicon import CONTRAST, MAIN_FIRST, RIVALS
from tasks.speaker import Clause, Speaker

__all__ = ["headline"]

MAIN = 0.75  # weight of the clause that the conjunction stresses


def headline(rng: random.Random, style: str) -> Clause:
    """Draw a headline about the company `<A>`.

    Args:
        rng: Source of the choices.
        style: One of `tasks.speaker.STYLES`.
    """
    pick = rng.random()
    if pick < 0.33:
        clause = fact(Speaker(rng, style, "<A>"))
    elif pick < 0.41:
        clause = _with_rival(rng, style, neutral=True)
    elif pick < 0.54:
        clause = _with_rival(rng, style, neutral=False)
    elif pick < 0.68:
        clause = _with_contrast(rng, style)
    else:
        clause = news(Speaker(rng, style, "<A>"))
    return Clause(clause.text[0].upper() + clause.text[1:], clause.score)


def _with_contrast(rng: random.Random, style: str) -> Clause:
    """Two pieces of news on one company; the conjunction tells which weighs more."""
    one, two = news(Speaker(rng, style, "<A>")), news(Speaker(rng, style, "it"))
    first_counts = rng.random() < 0.5
    joint = rng.choice(MAIN_FIRST if first_counts else CONTRAST)
    weight = MAIN if first_counts else 1 - MAIN
    score = weight * one.score + (1 - weight) * two.score
    return Clause(joint.format(one.text, two.text), score)


def _with_rival(rng: random.Random, style: str, *, neutral: bool) -> Clause:
    """Two companies; only what is said of the one named first counts."""
    one = (fact if neutral else news)(Speaker(rng, style, "<A>"))
    other = Speaker(rng, style, f"{rng.choice(RIVALS)} <B>")
    two = (news if neutral or rng.random() < 0.7 else fact)(other)
    return Clause(one.text + rng.choice((", while ", " as ", "; ")) + two.text, one.score)
