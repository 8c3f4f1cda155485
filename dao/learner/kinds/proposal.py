"""Which kind of task a column of a table is, where nobody has said it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dao.errors import UserError
from dao.learner.basics.limits import EXAMPLES
from dao.learner.basics.wording import count, listed, shown
from dao.learner.kinds.guessing.no_targets import (
    LISTS,
    refuse_decimal_commas,
    refuse_dressed,
    refuse_identifiers,
    refuse_numbers_in_lists,
    refuse_times,
)
from dao.learner.kinds.guessing.written import numbers_of
from dao.learner.kinds.multilabel import split_labels
from dao.learner.kinds.parts.cells import natural, parse_name

__all__ = ["RULE", "Proposal", "propose"]

SEPARATORS = (";", "|", ",")
LEVELS = 12
"""Consecutive integers up to which they are levels rather than numbers."""
OFTEN = 0.02
"""Share of the cells that have to hold a separator."""
CODE = re.compile(r"-?0\d+")
ALIKE = 0.5
"""Share of distinct words from which on they are no classes."""

RULE = (
    "lists, or words with a separator: multilabel; two values: binary; other words: "
    f"classification; 3 to {LEVELS} consecutive integers: ordinal; "
    "codes that begin with 0: classification; other numbers: regression"
)


class Proposal(NamedTuple):
    """A kind with its options, and why."""

    kind: str
    options: dict[str, Any]
    reason: str


def propose(name: str, column: str, cells: Sequence[object]) -> Proposal:
    """The kind that the training cells of a column suggest, by `RULE`.

    Args:
        name: Of the task.
        column: The user's name of the column.
        cells: Of the training rows, those that are not missing.

    Raises:
        UserError: There are none, all are alike, one cannot be a target, or they look like texts or
            identifiers.

    Example:
        >>> propose("stars", "stars", ["1", "3", "2", "2"])[::2]
        ('ordinal', 'consecutive integers 1 to 3')
        >>> propose("tags", "tags", ["a;b", "b", "a", "a;b;c"])[:2]
        ('multilabel', {'separator': ';'})
    """
    if any(isinstance(cell, LISTS) for cell in cells):
        refuse_numbers_in_lists(name, column, cells)
        _parsed(name, column, cells, split_labels)
        return Proposal("multilabel", {}, "lists of labels")
    words = [word for word in _parsed(name, column, cells, parse_name) if word is not None]
    values = natural(list(set(words)))
    if len(values) < 2:
        found = shown(values[0]) + f" in {count(len(words))}" if values else "only empty cells"
        raise UserError(
            f"`{column}` should hold at least two values in the train split for the task {name}. "
            f"Found {found}. Name another column with {name}.column=COLUMN, or leave the task out."
        )
    if len(values) == 2:
        return Proposal("binary", {}, f"two values, {values[0]} and {values[1]}")
    if (numbers := numbers_of(values)) is not None:
        return _of_numbers(name, column, words, numbers)
    refuse_dressed(name, column, words)
    refuse_decimal_commas(name, column, words)
    if separator := _separator(words):
        _parsed(name, column, words, lambda word: split_labels(word, separator))
        parts = {part.strip() for word in words for part in word.split(separator)} - {""}
        reason = f"{len(parts)} labels with {separator!r} between them"
        return Proposal("multilabel", {"separator": separator}, reason)
    _refuse_too_many(name, column, words)
    return Proposal("classification", {}, f"{len(values)} words, {listed(values, EXAMPLES)}")


def _parsed(
    name: str, column: str, cells: Sequence[object], parse: Callable[[object], Any]
) -> list[Any]:
    found = []
    for cell in cells:
        try:
            found.append(parse(cell))
        except ValueError as error:
            raise UserError(
                f"`{column}` should be {error}, for the task {name}. Found {shown(cell)}. Correct "
                f"it, or name another column with {name}.column=COLUMN."
            ) from None
    return found


def _of_numbers(name: str, column: str, words: Sequence[str], numbers: Sequence[float]) -> Proposal:
    low, high = min(numbers), max(numbers)
    whole = all(number.is_integer() for number in numbers)
    different = len(set(numbers)) == len(numbers)  # 1 and 01 are two names of one number
    code = max((word for word in words if CODE.fullmatch(word)), key=len, default="")
    near = whole and different and len(numbers) <= LEVELS and high - low == len(numbers) - 1
    if near and len(code) <= len("01"):  # 01 to 12 may be levels, 01067 to 01069 hardly
        return Proposal("ordinal", {}, f"consecutive integers {low:g} to {high:g}")
    if code:
        _refuse_too_many(name, column, words)
        reason = f"{len(numbers)} codes: {code} begins with 0, as no number does"
        return Proposal("classification", {}, reason)
    if whole and len(numbers) > LEVELS:
        refuse_identifiers(name, column, numbers, len(words))
        refuse_times(name, column, numbers)
    return Proposal("regression", {}, f"{len(numbers)} different numbers from {low:g} to {high:g}")


def _refuse_too_many(name: str, column: str, words: Sequence[str]) -> None:
    """Refuse words of which most are different."""
    values = natural(list(set(words)))
    if len(values) > ALIKE * len(words) and len(values) > LEVELS:
        raise UserError(
            f"`{column}` should hold classes, levels, labels or numbers for the task {name}. Found "
            f"{len(values)} different values in {count(len(words))}, such as {shown(values[0])}: "
            f"texts or identifiers. Name another column with {name}.column=COLUMN, or say what "
            f"they are with --tasks {name}:classification."
        )


def _separator(words: Sequence[str]) -> str | None:
    """The one that makes few labels out of many cells; None where there is none."""
    for separator in SEPARATORS:
        holding = sum(separator in word for word in words)
        labels = {part.strip() for word in words for part in word.split(separator)}
        if holding >= max(2, OFTEN * len(words)) and len(labels) < len(set(words)) + 1:
            return separator
    return None
