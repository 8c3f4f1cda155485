"""Words that a person reads as numbers and Python does not: with $ or %, or grouped digits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dao.learner.kinds.parts.cells import parse_number

__all__ = ["dressed_number", "numbers_of"]

UNIT = r"[$€£¥%]"
GROUPED = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}"
GROUPED += r"|\d{1,3}(?:[ '\u2019\u00a0\u202f]\d{3})+(?:[.,]\d+)?"
PLAIN = r"\d+(?:[.,]\d+)?|[.,]\d+"
SIGN = r"[-+\u2212]?"
WITH_UNIT = re.compile(
    rf"{SIGN}{UNIT}\s*{SIGN}(?:{GROUPED}|{PLAIN})|{SIGN}(?:{GROUPED}|{PLAIN})\s*{UNIT}"
)
WITH_GROUPS = re.compile(rf"{SIGN}(?!0)(?:{GROUPED})")
WITH_COMMA = re.compile(rf"{SIGN}\d*,\d+")


def dressed_number(words: Sequence[str]) -> str | None:
    """The first word that is a number with a unit or a thousands separator, where most are numbers.

    `1,234` is such a number only where every word with a comma has three digits behind it, or
    where another word is one beyond doubt: `3,5` may be a decimal or two labels.

    Example:
        >>> dressed_number(["$1,000", "950"]), dressed_number(["1.059,92", "3,5"])
        ('$1,000', '1.059,92')
        >>> dressed_number(["1,234", "3,5"]), dressed_number(["20%", "many", "few"])
        (None, None)
    """
    dressed = [word for word in words if WITH_UNIT.fullmatch(word) or WITH_GROUPS.fullmatch(word)]
    certain = [w for w in dressed if WITH_UNIT.fullmatch(w) or len(re.split(r"[^\d]", w)) > 2]
    commas = [word for word in words if WITH_COMMA.fullmatch(word) and word not in dressed]
    if not dressed or (commas and not certain):
        return None
    numbers = len(dressed) + len(commas) + sum(bool(numbers_of([word])) for word in words)
    return dressed[0] if 2 * numbers > len(words) else None


def numbers_of(values: Sequence[str]) -> list[float] | None:
    """The values as regression reads them; None where one is no number."""
    try:
        return [number for value in values if (number := parse_number(value)) is not None]
    except ValueError:
        return None
