"""Texts to predict on: every row of a file, looked through once, then given chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import short, shown
from dao.learner.data.reading.chunks import SIZE, Chunked
from dao.learner.data.reading.formats import Rows
from dao.learner.data.reading.progress import ticking
from dao.learner.data.reading.sources import Raw, located, remarks
from dao.learner.data.reading.standard import hint, parse_prose
from dao.learner.data.reading.table import Columns
from dao.learner.data.reading.two_texts import joined

__all__ = ["Texts", "read_texts"]


class Texts(NamedTuple):
    """A file of which every row has a text.

    Attributes:
        source: The file.
        names: All of its columns, in order.
        number: How many rows it has.
        said: What a person should know of how it is read.
    """

    source: Chunked
    names: Sequence[str]
    number: int
    said: tuple[str, ...] = ()

    def parts(self, size: int = SIZE) -> Iterator[tuple[Rows, list[str]]]:
        """All columns of at most `size` rows at a time, and the text of each of these rows.

        Raises:
            UserError: The file has been changed since it was looked through.
        """
        first = 1
        for rows in self.source.parts(size):
            texts = _texts(rows, first, self.source)
            whole: Rows = {name: rows.get(name) or [None] * len(texts) for name in self.names}
            first += len(texts)
            yield whole, texts


def read_texts(source: str, columns: Columns) -> Texts:
    """Look through a file whose rows are to be predicted; labels are not needed.

    Args:
        source: As for `reading.sources.read`.
        columns: Which column holds the text, and how the file is read.

    Raises:
        UserError: The file cannot be used, or a row has no text.
    """
    file = Chunked(source, columns)
    names: dict[str, None] = {}
    number = 0
    for _ in ticking(_looked_through(file, names), "reading"):
        number += 1
    if not number:
        raise UserError(f"{source} should have rows of data. Found {_nothing(Path(source))}.")
    return Texts(file, list(names), number, _said(source, columns))


def _said(source: str, columns: Columns) -> tuple[str, ...]:
    path, _ = located(source, columns)
    return tuple(f"{source}: {line}" for line in remarks(source, columns)) if path.exists() else ()


def _looked_through(file: Chunked, names: dict[str, None]) -> Iterator[str]:
    number = 0
    for rows in file.parts():
        names.update(dict.fromkeys(rows))
        texts = _texts(rows, number + 1, file, names)
        number += len(texts)
        yield from texts


def _nothing(path: Path) -> str:
    empty = path.is_file() and path.stat().st_size < 1 << 20 and not path.read_bytes().strip()
    return "an empty file" if empty else "none"


def _texts(
    rows: Rows, first: int, file: Chunked, known: dict[str, None] | None = None
) -> list[str]:
    """The text of every row, where `first` is the number of the first."""
    columns, source = file.columns, file.source
    texts = _column(rows, columns.text, first, file, known)
    if columns.second:
        others = _column(rows, columns.second, first, file, known)
        texts = joined(texts, others, columns, source, first)
    for row, text in enumerate(texts, start=first):
        if text is None:
            raise _empty(row, columns, source)
    return [text for text in texts if text is not None]


def _column(
    rows: Rows, name: str, first: int, file: Chunked, known: dict[str, None] | None
) -> list[str | None]:
    """The texts of one column, None where a cell is empty."""
    columns, source = file.columns, file.source
    setting = "data.text=[COLUMN,COLUMN]" if columns.second else "data.text=COLUMN"
    if name not in rows and name not in (known or {}):
        raw = Raw(source, pd.DataFrame(rows, dtype=object), "")
        raise UserError(
            f"`{name}` should be a column of {source}. Found: "
            f"{', '.join(map(short, rows))}{hint([raw])} Rename the column that holds "
            f"the text, or name it with {setting}."
        )
    cells: Sequence[Any] = rows.get(name) or [None] * max(map(len, rows.values()))
    texts = []
    for row, cell in enumerate(cells, start=first):
        try:
            text = parse_prose(cell)
        except ValueError:
            raise UserError(
                f"`{name}` of {source} should be text. Found {shown(cell)} in row {row}. "
                f"Correct it, or name another column with {setting}."
            ) from None
        if text is None and not columns.second:
            raise _empty(row, columns, source)
        texts.append(text)
    return texts


def _empty(row: int, columns: Columns, source: str) -> UserError:
    names = " and ".join(f"`{name}`" for name in columns.texts)
    return UserError(
        f"{names} of {source} should have a text in every row. Found none in row {row}. Remove or "
        f"fill it."
    )
