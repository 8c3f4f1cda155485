"""A source under the user's column names to rows under the table's own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from dao.errors import UserError
from tasks import TASKS
from tasks.splits import parse_split
from tasks.table import Columns

__all__ = ["refuse_absent", "standard"]


def refuse_absent(
    frames: Mapping[str, pd.DataFrame], columns: Columns, tasks: Sequence[str]
) -> None:
    """Check that every column the user named is there."""
    for source, frame in frames.items():
        found = ", ".join(map(str, frame.columns))
        if columns.text not in frame:
            raise UserError(
                f"`{columns.text}` should be a column of {source}. Found: {found}. "
                "Name it with data.text=COLUMN."
            )
        if not any(columns.targets[task] in frame for task in tasks):
            wanted = " or ".join(f"`{columns.targets[task]}`" for task in tasks)
            options = " or ".join(f"data.{task}=COLUMN" for task in tasks)
            raise UserError(
                f"{wanted} should be a column of {source}. Found: {found}. Name it with {options}."
            )
    present = {str(name): None for frame in frames.values() for name in frame.columns}
    named = {task: columns.targets[task] for task in tasks}
    for option in ("split", "domain", "id"):
        if getattr(columns, option) != option:  # the usual name may be absent
            named[option] = getattr(columns, option)
    for option, column in named.items():
        if column not in present:
            raise UserError(
                f"`{column}` should be a column of {' or '.join(frames)}. "
                f"Found: {', '.join(present)}. Name it with data.{option}=COLUMN."
            )


def standard(
    source: str, raw: pd.DataFrame, columns: Columns, tasks: Sequence[str]
) -> pd.DataFrame:
    """One source under the table's own column names, its cells parsed."""
    stem = Path(source).stem if source != SYNTHETIC else "synthetic"
    parsers: dict[str, tuple[str, Callable[[object], object]]] = {
        "id": (columns.id, _text),
        "text": (columns.text, _text),
        "split": (columns.split, parse_split),
        "domain": (columns.domain, _text),
        **{task: (columns.targets[task], TASKS[task].parse) for task in tasks},
    }
    frame = pd.DataFrame(index=raw.index)
    for name, (column, parse) in parsers.items():
        cells = raw[column].tolist() if column in raw else None
        values = [None] * len(raw) if cells is None else _parsed(source, column, cells, parse)
        frame[name] = pd.Series(values, index=raw.index, dtype=object)
    frame["id"] = [
        given or f"{stem}-{row}" for row, given in enumerate(frame["id"].tolist(), start=1)
    ]
    used = {column for column, _ in parsers.values()} | set(parsers)
    return frame.join(raw[[name for name in raw.columns if name not in used]])


def _parsed(
    source: str, column: str, cells: list[object], parse: Callable[[object], object]
) -> list[object]:
    values = []
    for row, cell in enumerate(cells, start=1):
        try:
            values.append(parse(cell))
        except ValueError as error:
            raise UserError(
                f"`{column}` of {source} should be {error}. Found {cell!r} in row {row}."
            ) from None
    return values


def _text(cell: object) -> str | None:
    if cell is None or cell != cell:  # NaN alone differs from itself
        return None
    return str(cell).strip() or None


