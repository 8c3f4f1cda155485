"""Data for a model that is already trained: to measure on, or only to predict."""

from __future__ import annotations

from collections.abc import Sequence

from dao.errors import UserError
from tasks.data import load
from tasks.sources import read
from tasks.splits import group_key
from tasks.table import Columns, Table

__all__ = ["load_unseen", "overlap", "read_texts"]


def load_unseen(sources: Sequence[str], columns: Columns, *, tasks: Sequence[str]) -> Table:
    """Every labelled row of `sources` as test rows; only tasks that have a column take part.

    Raises:
        UserError: a source cannot be used; the message names it.
    """
    found = {name for source in sources for name in read(source, columns)[0].columns}
    present = [task for task in tasks if columns.targets[task] in found]
    return load(sources, columns, tasks=present or tasks, split="test")


def overlap(trained: Table, table: Table) -> int:
    """How many test rows of `table` have a text that is also among the training rows."""
    known = set(trained.rows("train")["text"].map(group_key))
    return int(table.rows("test")["text"].map(group_key).isin(known).sum())


def read_texts(source: str, columns: Columns) -> list[str]:
    """The texts of a file, in order; labels are not needed.

    Raises:
        UserError: the file cannot be used, or a row has no text.
    """
    frame, _ = read(source, columns)
    if columns.text not in frame:
        raise UserError(
            f"`{columns.text}` should be a column of {source}. Found: {', '.join(frame.columns)}. "
            f"Rename the column that holds the text."
        )
    texts = ["" if cell is None else str(cell).strip() for cell in frame[columns.text]]
    if "" in texts:
        raise UserError(
            f"`{columns.text}` of {source} should have a text in every row. Found none in row "
            f"{texts.index('') + 1}. Remove or fill it."
        )
    return texts
