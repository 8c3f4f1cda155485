"""Data for a model that is already trained: to measure on, or only to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import short, shown
from dao.learner.data.load import assemble, nothing
from dao.learner.data.reading.sources import Raw, read
from dao.learner.data.reading.standard import hint, parse_prose, require_text_and_target
from dao.learner.data.reading.table import Columns, Table
from dao.learner.data.reading.two_texts import joined
from dao.learner.data.report import described
from dao.learner.data.splits import group_key
from dao.learner.kinds import Task

__all__ = ["load_unseen", "overlap", "read_texts"]


def load_unseen(sources: Sequence[str], columns: Columns, *, tasks: Mapping[str, Task]) -> Table:
    """Every labelled row of `sources` as a test row; tasks without any target take no part.

    Classes that were cut from a score in training are cut at the same thresholds.

    Columns for domain and id may be absent whatever their names, and one for the split counts
    for nothing.

    Raises:
        UserError: A source cannot be used, or has no target; the message names it.
    """
    columns = replace(columns, settable=False)
    raw = [read(source, columns) for source in sources]
    raw = [p._replace(frame=p.frame.drop(columns=columns.split, errors="ignore")) for p in raw]
    require_text_and_target(raw, columns, list(tasks))
    parsers = {name: task.unseen_parser() for name, task in tasks.items()}
    frame, dropped = assemble(raw, columns, parsers)
    present = [task for task in tasks if frame[task].notna().any()]
    if not present:
        raise nothing(list(tasks), columns)
    frame = frame.drop(columns=[task for task in tasks if task not in present])
    frame["split"] = "test"
    for name in present:
        values = tasks[name].unseen_values(frame[name].tolist())
        frame[name] = pd.Series(values, index=frame.index, dtype=object)
    report = (
        described(raw, frame, {name: type(tasks[name]) for name in present})
        | dropped
        | {"split": ["every row is for test"]}
    )
    if columns.second:
        report["pairs"] = list(columns.texts)
    return Table(frame, columns, report)


def overlap(trained: Table, table: Table) -> int:
    """How many test rows of `table` have a text that is also among the training rows."""
    known = set(trained.rows("train")["text"].map(group_key))
    return int(table.rows("test")["text"].map(group_key).isin(known).sum())


def read_texts(source: str, columns: Columns) -> tuple[pd.DataFrame, list[str]]:
    """A file as it is, and the text of every row, in order; labels are not needed.

    Raises:
        UserError: The file cannot be used, or a row has no text.
    """
    raw = read(source, columns)
    texts = _texts(raw, columns.text, columns)
    if columns.second:
        texts = joined(texts, _texts(raw, columns.second, columns), columns, source)
    for row, text in enumerate(texts, start=1):
        if text is None:
            raise _empty(row, columns, source)
    return raw.frame, [text for text in texts if text is not None]


def _texts(raw: Raw, name: str, columns: Columns) -> list[str | None]:
    """The texts of one column, None where a cell is empty."""
    setting = "data.text=[COLUMN,COLUMN]" if columns.second else "data.text=COLUMN"
    if name not in raw.frame:
        raise UserError(
            f"`{name}` should be a column of {raw.source}. Found: "
            f"{', '.join(map(short, raw.frame.columns))}{hint([raw])} Rename the column that holds "
            f"the text, or name it with {setting}."
        )
    texts = []
    for row, cell in enumerate(raw.frame[name].tolist(), start=1):
        try:
            text = parse_prose(cell)
        except ValueError:
            raise UserError(
                f"`{name}` of {raw.source} should be text. Found {shown(cell)} in row {row}. "
                f"Correct it, or name another column with {setting}."
            ) from None
        if text is None and not columns.second:
            raise _empty(row, columns, raw.source)
        texts.append(text)
    return texts


def _empty(row: int, columns: Columns, source: str) -> UserError:
    names = " and ".join(f"`{name}`" for name in columns.texts)
    return UserError(
        f"{names} of {source} should have a text in every row. Found none in row {row}. Remove or "
        f"fill it."
    )
