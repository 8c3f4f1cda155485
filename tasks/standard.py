"""A source under the user's column names to rows under the table's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dao.errors import UserError
from tasks import TASKS
from tasks.splits import parse_split
from tasks.table import Columns

__all__ = ["Raw", "refuse_absent", "standard"]


class Raw(NamedTuple):
    """A source as it was read; `digest` is its SHA-256."""

    source: str
    frame: pd.DataFrame
    digest: str


def refuse_absent(raw: Sequence[Raw], columns: Columns, tasks: Sequence[str]) -> None:
    """Check that the columns the user named are there.

    Raises:
        UserError: A source lacks the text or any target, or no source has a named column.
    """
    for part in raw:
        if columns.text not in part.frame:
            raise _absent([columns.text], [part], ["text"])
        if not any(columns.targets[task] in part.frame for task in tasks):
            raise _absent([columns.targets[task] for task in tasks], [part], tasks)
    named = {task: columns.targets[task] for task in tasks}
    for option in ("split", "domain", "id"):
        if getattr(columns, option) != option:  # the usual name may be absent
            named[option] = getattr(columns, option)
    for option, column in named.items():
        if not any(column in part.frame for part in raw):
            raise _absent([column], raw, [option])


def _absent(wanted: Sequence[str], raw: Sequence[Raw], options: Sequence[str]) -> UserError:
    names = " or ".join(f"`{column}`" for column in wanted)
    sources = " or ".join(part.source for part in raw)
    found = dict.fromkeys(str(name) for part in raw for name in part.frame.columns)
    choices = " or ".join(f"data.{option}=COLUMN" for option in options)
    return UserError(
        f"{names} should be a column of {sources}. Found: {', '.join(found)}. "
        f"Name it with {choices}."
    )


def standard(raw: Raw, columns: Columns, tasks: Sequence[str]) -> pd.DataFrame:
    """One source under the table's own column names, its cells parsed.

    Columns without a part in this keep their names, unless the name is one of the table's own.
    """
    parsers: dict[str, tuple[str, Callable[[object], object]]] = {
        "id": (columns.id, _text),
        "text": (columns.text, _text),
        "split": (columns.split, parse_split),
        "domain": (columns.domain, _text),
        **{task: (columns.targets[task], TASKS[task].parse) for task in tasks},
    }
    index = raw.frame.index
    frame = pd.DataFrame(index=index)
    for name, (column, parse) in parsers.items():
        values = _parsed(raw, name, column, parse)
        frame[name] = pd.Series(values, index=index, dtype=object)
    stem = Path(raw.source).stem
    ids = enumerate(frame["id"].tolist(), start=1)
    frame["id"] = pd.Series([given or f"{stem}-{row}" for row, given in ids], index, dtype=object)
    used = {column for column, _ in parsers.values()} | set(parsers)
    return frame.join(raw.frame[[name for name in raw.frame.columns if name not in used]])


def _parsed(raw: Raw, name: str, column: str, parse: Callable[[object], object]) -> list[object]:
    if column not in raw.frame:
        return [None] * len(raw.frame)
    values = []
    for row, cell in enumerate(raw.frame[column].tolist(), start=1):
        try:
            values.append(parse(cell))
        except ValueError as error:
            raise UserError(
                f"`{column}` of {raw.source} should be {error}. Found {cell!r} in row {row}. "
                f"Correct it, or name another column with data.{name}=COLUMN."
            ) from None
    return values


def _text(cell: object) -> str | None:
    if cell is None or cell != cell:  # NaN alone differs from itself
        return None
    return str(cell).strip() or None
