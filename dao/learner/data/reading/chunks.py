"""A file of any size, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from dao.errors import UserError
from dao.learner.data.reading.formats import (
    Rows,
    as_columns,
    json_records,
    kept_columns,
    nul_at,
    separated,
)
from dao.learner.data.reading.hints import is_utf8
from dao.learner.data.reading.sources import (
    check_file,
    invalid,
    is_hub_name,
    located,
    parse,
    read,
)
from dao.learner.data.reading.table import Columns

__all__ = ["SIZE", "Chunked"]

SIZE = 2048
"""Rows at a time, where nobody asks for another number."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}


class Chunked(NamedTuple):
    """A source that can be read again and again, some rows at a time.

    Attributes:
        source: Path of a file, or a hub data set.
        columns: How it is read.
    """

    source: str
    columns: Columns

    def parts(self, size: int = SIZE) -> Iterator[Rows]:
        """Its rows, at most `size` at a time; a part of a JSONL file has the names of its own rows.

        CSV, TSV and JSONL are read by lines and Parquet by its row groups, in memory that does not
        grow with the file. JSON, XLSX, Financial PhraseBank and hub data sets are read whole.

        Raises:
            UserError: The source is missing, unreadable or of an unknown format.
        """
        path, columns = located(self.source, self.columns)
        if is_hub_name(self.source) and not path.exists():
            frame = read(self.source, self.columns).frame
            yield from _slices({str(name): frame[name].tolist() for name in frame}, size)
            return
        check_file(path)
        suffix = path.suffix.lower()
        try:
            if suffix in SEPARATORS:
                separator = columns.separator or SEPARATORS[suffix]
                yield from _separated(path, columns, separator, size)
            elif suffix == ".jsonl":
                yield from _json_lines(path, columns, size)
            elif suffix == ".parquet":
                yield from _parquet(path, size)
            else:
                yield from _slices(parse(path, path.read_bytes(), columns), size)
        except UnicodeDecodeError:
            parse(path, path.read_bytes(), columns)  # which says where the byte is
            raise
        except UserError:
            raise
        except (ValueError, OSError) as error:
            raise invalid(path, error) from None


def _slices(rows: Rows, size: int) -> Iterator[Rows]:
    number = max(map(len, rows.values()), default=0)
    for start in range(0, number, size):
        yield {name: cells[start : start + size] for name, cells in rows.items()}


def _opened(path: Path, encoding: str, newline: str) -> TextIO:
    return path.open(encoding="utf-8-sig" if is_utf8(encoding) else encoding, newline=newline)


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a text without its byte order mark."""
    for number, line in enumerate(stream):
        yield line.removeprefix("\ufeff") if number == 0 else line


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """The lines, of which none may hold a NUL."""
    place = 0
    for line in lines:
        if (found := line.find("\0")) >= 0:
            raise nul_at(place + found)
        place += len(line)
        yield line


def _separated(path: Path, columns: Columns, separator: str, size: int) -> Iterator[Rows]:
    header, kept = _kept(path, columns, separator)
    names = [header[place] for place in kept]
    with _opened(path, columns.encoding, "") as stream:
        table = separated(_whole(_lines(stream)), separator)
        next(table)
        while rows := list(islice(table, size)):
            cells: Sequence[Any] = list(zip(*(row[: len(header)] for row in rows), strict=True))
            yield {name: list(cells[place]) for name, place in zip(names, kept, strict=True)}


def _kept(path: Path, columns: Columns, separator: str) -> tuple[list[str], list[int]]:
    """The header of a file, and which of its columns are read."""
    with _opened(path, columns.encoding, "") as stream:
        table = separated(_whole(_lines(stream)), separator)
        header = next(table)
        filled = [False] * len(header)
        if len(set(header)) < len(header):  # only then does it matter whether a column is empty
            for row in table:
                filled = [old or bool(cell) for old, cell in zip(filled, row, strict=False)]
    return header, kept_columns(header, filled)


def _json_lines(path: Path, columns: Columns, size: int) -> Iterator[Rows]:
    with _opened(path, columns.encoding, "\n") as stream:
        records, number = json_records(_lines(stream)), 1
        while some := list(islice(records, size)):
            yield as_columns(some, number)
            number += len(some)


def _parquet(path: Path, size: int) -> Iterator[Rows]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ValueError(f"two columns of one name among {', '.join(names)}")
            for batch in file.iter_batches(size):
                yield batch.to_pydict()
    except Exception as error:  # pyarrow raises of its own and of Python's, whatever is damaged
        raise ValueError(str(error) or type(error).__name__) from None
