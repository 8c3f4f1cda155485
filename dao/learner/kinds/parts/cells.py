"""Cells of a data file as numbers, and as names of classes, labels and levels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real

__all__ = ["MISSING", "USUAL", "named", "natural", "parse_name", "parse_number"]

MISSING = ("N/A", "n/a", "#N/A", "<NA>", "NaN", "nan")
"""Words that stand for nothing: what the setting `data.missing` says by default."""
USUAL = (*MISSING, "None", "null")
"""What that default means from `data.rules=3` on: also nothing as Python and JSON write it.
`none` and `NA` may well be classes. From 4 on, `-` is nothing as well where it is not the opposite
of `+` (`data.reading.absent.dashed`)."""
INTEGER_LIKE = re.compile(r"-?\d+\.0+")
DIGITS = re.compile(r"(\d+)")
LARGEST = 3.4e38  # of 32 bits, in which targets that are not standardised are learned


def parse_name(cell: object) -> str | None:
    """A cell as the name of a class, None where it is empty; "1", 1 and 1.0 are the same class.

    Raises:
        ValueError: The cell holds something that names no class; the message says what does.

    Example:
        >>> parse_name(" up "), parse_name(1.0), parse_name("")
        ('up', '1', None)
    """
    if cell is None:
        return None
    text = str(cell).strip()
    if text.lower() == "nan" or isinstance(cell, list | tuple | dict | bytes):
        raise ValueError("a class name, or empty where it is missing")
    if INTEGER_LIKE.fullmatch(text):
        text = text.split(".")[0]
    return text or None


def parse_number(cell: object) -> float | None:
    """A cell as a finite number, None where it is empty.

    Raises:
        ValueError: The cell holds something else; the message says what is expected.

    Example:
        >>> parse_number(" 1.5 "), parse_number("")
        (1.5, None)
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    expected = "a finite number, or empty where it is missing"
    if isinstance(cell, bool) or not isinstance(cell, str | Real | Decimal):
        raise ValueError(expected)
    if isinstance(cell, str) and "_" in cell:  # Python's way to group digits
        raise ValueError(expected)
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    if not math.isfinite(number):
        raise ValueError(expected)
    if abs(number) > LARGEST:
        raise ValueError(f"a number of at most {LARGEST:.1e} in size")
    return number


def named(text: str) -> str:
    """A name in the settings, spelled as `parse_name` spells cells; empty where none is given.

    Raises:
        ValueError: No cell can have this name.

    Example:
        >>> named("1.0"), named("")
        ('1', '')
    """
    try:
        return parse_name(text) or ""
    except ValueError as error:
        raise ValueError(f"should be {error}") from None


def natural(names: Sequence[str]) -> list[str]:
    """Names in the order that a person expects: by value where all are numbers.

    Example:
        >>> natural(["10", "2", "-1"]), natural(["q10", "q2", "other"])
        (['-1', '2', '10'], ['other', 'q2', 'q10'])
    """
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        pass
    parts = {name: DIGITS.split(name) for name in names}  # text and digits in turns
    return sorted(names, key=lambda n: [int(p) if i % 2 else p for i, p in enumerate(parts[n])])
