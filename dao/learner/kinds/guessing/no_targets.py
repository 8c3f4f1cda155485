"""Columns that would be learned as something that they are not, refused in a line that helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dao.errors import UserError
from dao.learner.basics.wording import count, shown
from dao.learner.kinds.guessing.written import dressed_number, numbers_of

__all__ = [
    "LISTS",
    "refuse_decimal_commas",
    "refuse_dressed",
    "refuse_identifiers",
    "refuse_numbers_in_lists",
    "refuse_times",
]

LISTS = (list, tuple, set, np.ndarray)
YEARS = (946_684_800, 4_102_444_800)
"""Seconds from 1970 to the beginning of the years 2000 and 2100."""


def refuse_numbers_in_lists(name: str, column: str, cells: Sequence[object]) -> None:
    """Refuse lists of numbers with decimals, and lists that mark each label by 0 or 1.

    Whole numbers in lists of any other sort may be the names of labels.
    """
    lists = [list(cell) for cell in cells if isinstance(cell, LISTS)]
    for own in lists:
        if any(
            isinstance(part, float | np.floating) and not float(part).is_integer() for part in own
        ):
            raise UserError(
                f"`{column}` should hold lists of labels for the task {name}. Found {shown(own)}: "
                f"lists of numbers are no labels. Write each number to a column of its own and "
                f"name these columns as tasks, or name another column with {name}.column=COLUMN."
            )
    known = [own for own in lists if own]
    marks = all(_mark(part) for own in known for part in own)
    if known and marks and len(known[0]) > 1 and len({len(own) for own in known}) == 1:
        raise UserError(
            f'`{column}` should hold lists of the labels that a text has, such as ["cost"], for '
            f"the task {name}. Found {shown(known[0])}: a 0 or 1 for each label. Write the names "
            f"of the labels with a 1 in place of these, or name another column with "
            f"{name}.column=COLUMN."
        )


def _mark(part: object) -> bool:
    return isinstance(part, bool | int | float | np.number | np.bool_) and part in (0, 1)


def refuse_dressed(name: str, column: str, words: Sequence[str]) -> None:
    """Refuse prices, percentages and grouped digits: as classes they would be of no use."""
    if found := dressed_number(words):
        raise UserError(
            f"`{column}` should hold plain numbers, such as 1234.5, for the task {name}. Found "
            f"{shown(found)}: most cells look like numbers, some of them written with $ or % or a "
            f"thousands separator. Write plain numbers, or give --tasks {name}:classification."
        )


def refuse_decimal_commas(name: str, column: str, words: Sequence[str]) -> None:
    """Refuse numbers with commas: `3,5` may be one number or two labels."""
    parts = [part for word in words for part in word.split(",")]
    if numbers_of(parts) is not None:
        found = next(word for word in words if "," in word)
        raise UserError(
            f"`{column}` should hold numbers with a decimal point for the task {name}. Found "
            f"{shown(found)}. Write 3.5 for 3,5, or say that these are numbers with --tasks "
            f"{name}:regression; or, if these are labels, say so with --tasks {name}:multilabel "
            f"{name}.separator=,."
        )


def refuse_identifiers(name: str, column: str, numbers: Sequence[float], rows: int) -> None:
    """Refuse whole numbers that number the rows: all different, and most of their range is there.

    Measured numbers so close together would repeat.

    Args:
        name: Of the task.
        column: The user's name of the column.
        numbers: The distinct whole numbers.
        rows: That hold them.
    """
    low, high = min(numbers), max(numbers)
    if len(numbers) == rows and 2 * rows > high - low + 1:
        raise UserError(
            f"`{column}` should hold classes, levels, labels or numbers for the task {name}. Found "
            f"{count(rows)} with a whole number each from {low:.0f} to {high:.0f}, none of them "
            f"twice: identifiers. Name another column with {name}.column=COLUMN, or say that they "
            f"are measured with --tasks {name}:regression."
        )


def refuse_times(name: str, column: str, numbers: Sequence[float]) -> None:
    """Refuse whole numbers that are all times of this century, in seconds or milliseconds."""
    low, high = min(numbers), max(numbers)
    for unit, in_a_second in (("seconds", 1), ("milliseconds", 1000)):
        if YEARS[0] * in_a_second <= low and high <= YEARS[1] * in_a_second:
            raise UserError(
                f"`{column}` should hold classes, levels, labels or numbers for the task {name}. "
                f"Found numbers from {low:.0f} to {high:.0f}: times in {unit} since 1970. Name "
                f"another column with {name}.column=COLUMN, or say that they are measured with "
                f"--tasks {name}:regression."
            )
