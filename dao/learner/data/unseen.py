"""Labelled data for a model that is already trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dao.learner.data.load import assemble, nothing
from dao.learner.data.numbers import Written, reads_numbers, written_plainly
from dao.learner.data.reading.absent import dashed
from dao.learner.data.reading.standard import require_text_and_target
from dao.learner.data.reading.table import Columns, Table
from dao.learner.data.registered import read_source
from dao.learner.data.report import described
from dao.learner.data.splits import group_key
from dao.learner.kinds import Task

__all__ = ["load_unseen", "overlap"]


def load_unseen(
    sources: Sequence[str],
    columns: Columns,
    *,
    tasks: Mapping[str, Task],
    written: Written | None = None,
) -> Table:
    """Every labelled row of `sources` as a test row; tasks without any target take no part.

    Classes that were cut from a score in training are cut at the same thresholds.

    Columns for domain and id may be absent whatever their names, and one for the split counts
    for nothing.

    Args:
        sources: As for `load`.
        columns: The user's names.
        tasks: Of the model.
        written: How the numbers of the training data were written, of the table's report.

    Raises:
        UserError: A source cannot be used, or has no target; the message names it.
    """
    columns = replace(columns, settable=False)
    raw = [read_source(source, columns) for source in sources]
    raw = [p._replace(frame=p.frame.drop(columns=columns.split, errors="ignore")) for p in raw]
    require_text_and_target(raw, columns, list(tasks))
    columns = dashed([part.frame for part in raw], columns)
    parsers = {name: task.unseen_parser() for name, task in tasks.items()}
    numbers = {name: True for name, parse in parsers.items() if reads_numbers(parse)}
    raw, found = written_plainly(raw, columns, numbers, written or {})
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
    if found:
        report["written"] = found
    if columns.second:
        report["pairs"] = list(columns.texts)
    return Table(frame, columns, report)


def overlap(trained: Table, table: Table) -> int:
    """How many test rows of `table` have a text that is also among the training rows."""
    known = set(trained.rows("train")["text"].map(group_key))
    return int(table.rows("test")["text"].map(group_key).isin(known).sum())
