"""The rows of a source that are wanted, by what a column holds."""

import re
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.limits import IN_A_LINE
from dao.learner.basics.wording import listed, shown
from dao.learner.data.reading.sources import Raw

__all__ = ["Where", "matching", "one_of"]

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
TYPED = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")  # not 010
Value = str | float | bool
Where = Mapping[str, Value | Sequence[Value]]
"""Column -> the value that it should hold, or several of which it should hold one."""


def matching(raw: Sequence[Raw], where: Where) -> tuple[list[Raw], dict[str, int]]:
    """The rows that hold what every condition asks for, as `one_of` says.

    Args:
        raw: What was read. A source without one of the columns has no such row.
        where: The conditions, on the user's columns.

    Returns:
        The sources that have such rows, and why and how many others are left out.

    Raises:
        UserError: A column is in no source, or no row is left.
    """
    kept, others = list(raw), {}
    for column, wanted in where.items():
        values = [wanted] if isinstance(wanted, str | float | int) else list(wanted)
        before = sum(len(part.frame) for part in kept)
        _require(column, kept)
        found = [_rows(part, column, values) for part in kept]
        if not any(map(len, found)):
            raise _none_left(column, values, kept)
        kept = [p._replace(frame=f) for p, f in zip(kept, found, strict=True) if len(f)]
        named = " or ".join(str(value) for value in values)
        others[f"without {named} in {column}"] = before - sum(map(len, found))
    return kept, others


def _rows(part: Raw, column: str, values: Sequence[Value]) -> pd.DataFrame:
    if column not in part.frame:
        return part.frame.iloc[:0]
    right = list(map(one_of(values), part.frame[column].tolist()))
    return part.frame[right].reset_index(drop=True)


def one_of(values: Sequence[Value]) -> Callable[[object], bool]:
    """Whether a cell is one of these values; numbers are compared as numbers.

    A value that is not how numbers are written, such as 010 or 1_000, is a code and has to be the
    cell's own text. An empty value stands for an empty cell.

    Example:
        >>> [one_of(["1", "010", ""])(cell) for cell in ("1.0", "010", 10, "8", None)]
        [True, True, False, False, True]
    """
    words = set(map(_text, values))
    numbers = {float(word) for word in words if TYPED.fullmatch(word)}

    def is_one(cell: object) -> bool:
        text = _text(cell)
        return text in words or bool(numbers and NUMBER.fullmatch(text) and float(text) in numbers)

    return is_one


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # NaN alone differs from itself
        return ""
    text = str(cell).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _require(column: str, raw: Sequence[Raw]) -> None:
    if not any(column in part.frame for part in raw):
        found = dict.fromkeys(str(name) for part in raw for name in part.frame.columns)
        raise UserError(
            f"`data.where` should name columns of the data. Found {column!r} in none of "
            f"{', '.join(part.source for part in raw)}, only {', '.join(found)}. Correct it."
        )


def _none_left(column: str, values: Sequence[Value], raw: Sequence[Raw]) -> UserError:
    cells = [cell for part in raw if column in part.frame for cell in part.frame[column].tolist()]
    held = list(dict.fromkeys(map(shown, cells)))
    return UserError(
        f"`data.where` should leave some rows. Found no {column} that is "
        f"{' or '.join(map(str, values))}; it holds {listed(held, IN_A_LINE)}. Correct the value."
    )
