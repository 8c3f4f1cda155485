"""Target values of a column: parsed, coded, and refused where training never shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from dao.errors import UserError
from dao.learner.basics.wording import count, listed, shown
from dao.learner.kinds.parts.cells import natural

__all__ = ["SPLITS", "code_of", "left_train", "parse_all", "refuse_unseen"]

SPLITS = ("train", "validation", "test")
Code = TypeVar("Code")


def parse_all(
    column: str, parse: Callable[[object], Any], values: Sequence[object | None]
) -> list[Any]:
    """Every value parsed.

    Raises:
        UserError: One cannot be a target; the message names its row, counted from 1.
    """
    parsed = []
    for row, value in enumerate(values, start=1):
        try:
            parsed.append(parse(value))
        except ValueError as error:
            raise UserError(
                f"`{column}` should be {error}. Found {shown(value)} in row {row}."
            ) from None
    return parsed


def code_of(column: str, what: str, index: Mapping[Any, Code], value: object, row: int) -> Code:
    """The code of a class, label or level.

    Args:
        column: The user's name of the column.
        what: "class", "label" or "level".
        index: Name to code; that of a missing value is None.
        value: A name.
        row: Where it is, counted from 1.

    Raises:
        UserError: There is no such name.
    """
    if value not in index:
        names = [name for name in index if name is not None]
        raise UserError(
            f"`{column}` should be one of {listed(names)}. Found {shown(value)} in row {row}. "
            f"Correct it, or train with that {what}."
        )
    return index[value]


def refuse_unseen(
    column: str,
    what: str,
    known: Collection[str],
    names: Mapping[str, Sequence[str]],
    removed: int = 0,
    advice: str = "Add training rows of it, or remove it.",
) -> None:
    """Refuse a class, label or level that only the validation or test split shows.

    Args:
        column: The user's name of the column.
        what: "class", "label" or "level".
        known: Names that the training rows have.
        names: Split -> names, one for each row that has it.
        removed: Training rows that were left out, because their texts are in another split.
        advice: What to do.

    Raises:
        UserError: Naming the first one.
    """
    for split in SPLITS[1:]:
        rows = Counter(names[split])
        for name in natural(list(rows.keys() - set(known))):
            raise UserError(
                f"`{column}` should have every {what} in the train split. Found {shown(name)} only "
                f"in the {split} split ({count(rows[name])}{left_train(removed)}). {advice}"
            )


def left_train(removed: int) -> str:
    """The end of a message on values that training never shows.

    Example:
        >>> left_train(0), left_train(2)
        ('', '; 2 rows left train, their texts being in validation or test as well')
    """
    if not removed:
        return ""
    return f"; {count(removed)} left train, their texts being in validation or test as well"
