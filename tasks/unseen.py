"""Data for a model that is already trained: to measure on, or only to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dao.errors import UserError
from dao.learner.kinds import Task
from dao.learner.wording import short, shown
from tasks.data import assemble, nothing
from tasks.report import described
from tasks.sources import read
from tasks.splits import group_key
from tasks.standard import hint, parse_prose, require_text_and_target
from tasks.table import Columns, Table

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
    report = described(raw, frame, present) | dropped | {"split": ["every row is for test"]}
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
    frame = raw.frame
    if columns.text not in frame:
        raise UserError(
            f"`{columns.text}` should be a column of {source}. Found: "
            f"{', '.join(map(short, frame.columns))}{hint([raw])} Rename the column that holds the "
            f"text, or name it with data.text=COLUMN."
        )
    texts = []
    for row, cell in enumerate(frame[columns.text].tolist(), start=1):
        try:
            text = parse_prose(cell)
        except ValueError:
            raise UserError(
                f"`{columns.text}` of {source} should be text. Found {shown(cell)} in row {row}. "
                f"Correct it, or name another column with data.text=COLUMN."
            ) from None
        if text is None:
            raise UserError(
                f"`{columns.text}` of {source} should have a text in every row. "
                f"Found none in row {row}. Remove or fill it."
            )
        texts.append(text)
    return frame, texts
