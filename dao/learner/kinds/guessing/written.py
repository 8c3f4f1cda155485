"""Words that a person reads as numbers and Python does not: with $ or %, or grouped digits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dao.learner.kinds.parts.cells import parse_number

__all__ = ["COMMA", "PERCENT", "dressed_number", "manners", "numbers_of", "plainly"]

COMMA, PERCENT = "decimal commas", "percent signs"

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
WITH_PERCENT = re.compile(rf"{SIGN}(?:{PLAIN})\s*%")
WHOLE = re.compile(rf"{SIGN}\d+")
NO_LABELS = re.compile(r"(\d+),(?:\1|0\d+)")
"""A list of labels names none twice, and writes none as 05."""


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


def manners(words: Sequence[str], *, numbers: bool, commas: bool = False) -> tuple[str, ...]:
    """How all words agree to write numbers other than plainly; nothing where they do not agree.

    Args:
        words: The cells of a column.
        numbers: Whether they are known to be numbers; else `3,5` may be two labels, and two
            different words may be two classes.
        commas: Whether a comma is known to be that of decimals; else `1,234` may be a thousand.

    Returns:
        `COMMA`, `PERCENT`, both or neither.

    Example:
        >>> manners(["3,5", "2", "-0,25"], numbers=True), manners(["20 %", "7,5%"], numbers=True)
        (('decimal commas',), ('decimal commas', 'percent signs'))
        >>> manners(["1,5", "1.5"], numbers=True), manners(["1,234", "20"], numbers=True)
        ((), ())
        >>> manners(["3,5", "1,2", "7"], numbers=False), manners(["3,5", "1,1", "7"], numbers=False)
        ((), ('decimal commas',))
    """
    if not words or not (numbers or len(set(words)) > 2):
        return ()
    percent = (PERCENT,) if all(map(WITH_PERCENT.fullmatch, words)) else ()
    bare = [word.rstrip("%").rstrip() for word in words] if percent else list(words)
    with_commas = [word for word in bare if "," in word]
    if not with_commas:
        return percent
    decimals = all(WITH_COMMA.fullmatch(w) or WHOLE.fullmatch(w) for w in bare)
    thousands = not commas and all(map(WITH_GROUPS.fullmatch, with_commas))
    labels = not (numbers or percent or any(map(NO_LABELS.fullmatch, with_commas)))
    return (COMMA, *percent) if decimals and not thousands and not labels else ()


def plainly(word: str) -> str:
    """A word of which `manners` says how it is written, as Python reads numbers.

    Example:
        >>> plainly("-7,5 %")
        '-7.5'
    """
    return word.rstrip("%").rstrip().replace(",", ".").replace("\u2212", "-")


def numbers_of(values: Sequence[str]) -> list[float] | None:
    """The values as regression reads them; None where one is no number."""
    try:
        return [number for value in values if (number := parse_number(value)) is not None]
    except ValueError:
        return None
