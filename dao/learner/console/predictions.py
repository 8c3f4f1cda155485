"""Predictions as they are printed or written: CSV, or a JSON line per row, as they come."""

from __future__ import annotations

import csv
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dao.learner.basics.spreadsheets import guarded
from dao.learner.storage.files import write_atomically

if TYPE_CHECKING:
    from dao.learner.data.texts import Texts

__all__ = ["Columns", "beside", "completed", "print_lines", "told_progress", "write_csv",
           "write_table"]  # fmt: skip

Columns = Mapping[str, Sequence[Any]]
EVERY = 5.0  # seconds between two lines on the progress


def beside(taken: Sequence[str], found: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Names for predictions that stand beside the columns of a file, and notes on the new ones.

    Args:
        taken: columns of the file.
        found: columns of the predictions.

    Returns:
        A prediction whose name is taken is called NAME_2, NAME_3, ...

    Example:
        >>> beside(["cls", "text"], ["cls", "reg"])[0]
        {'cls': 'cls_2', 'reg': 'reg'}
    """
    every = {*taken, *found}
    names = {
        name: next(new for i in itertools.count(2) if (new := f"{name}_{i}") not in every)
        if name in taken
        else name
        for name in found
    }
    notes = [
        f"`{name}` is a column of the input: the predictions are in `{new}`"
        for name, new in names.items()
        if new != name
    ]
    return names, notes


def completed(
    texts: Texts,
    answers: Callable[[Sequence[str]], Columns],
    tell: Callable[[Sequence[str]], object],
    size: int | None = None,
) -> Iterator[Columns]:
    """The columns of a file, then the answers, some rows at a time.

    Args:
        texts: the file.
        answers: what gives the columns of predictions of some texts.
        tell: gets lines on columns whose names were taken, once.
        size: rows at a time; None for as many as the file is read by.
    """
    names: dict[str, str] = {}
    for rows, some in texts.parts() if size is None else texts.parts(size):
        found = answers(some)
        if not names:
            names, notes = beside(texts.names, list(found))
            tell(notes)
        yield {**rows, **{names[name]: values for name, values in found.items()}}


def write_table(parts: Iterable[Columns], output: Path) -> None:
    """Write columns, some rows at a time, as a CSV file that appears whole or not at all.

    Raises:
        OSError: it could not be written.
    """

    def write(place: Path) -> None:
        with place.open("w", encoding="utf-8", newline="") as file:
            write_csv(parts, file)

    write_atomically(output, write)


def write_csv(parts: Iterable[Columns], stream: TextIO) -> None:
    r"""Write columns, some rows at a time, as CSV that a spreadsheet shows and never runs.

    Args:
        parts: all have the same columns.
        stream: where to.

    Example:
        >>> write_csv([{"text": ["=1+1", "up"], "p": [0.5, None]}], sys.stdout)
        text,p
        '=1+1,0.5
        up,
    """
    plain = csv.writer(stream, lineterminator="\n")
    # A carriage return that is not quoted would end a row.
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for number, part in enumerate(parts):
        rows: Iterator[Sequence[Any]] = zip(*part.values(), strict=True)
        for row in itertools.chain([list(part)] if number == 0 else [], rows):
            cells = [_cell(value) for value in row]
            returns = any("\r" in cell for cell in cells if isinstance(cell, str))
            (quoted if returns else plain).writerow(cells)
        stream.flush()


def print_lines(parts: Iterable[Columns]) -> None:
    """Print a JSON line per row."""
    for part in parts:
        for values in zip(*part.values(), strict=True):
            row = dict(zip(part, values, strict=True))
            print(json.dumps(row, ensure_ascii=False, default=str))


def told_progress(parts: Iterable[Columns], rows: int) -> Iterator[Columns]:
    """Pass parts on, and say on stderr every few seconds how many of the rows are done."""
    begun = last = time.monotonic()
    done = 0
    for part in parts:
        done += len(next(iter(part.values()), ()))
        now = time.monotonic()
        if done < rows and now - last >= EVERY:
            rate = done / (now - begun)
            left = f"{rate:,.0f} rows/s, {(rows - done) / rate:,.0f} s left"
            print(f"predicted: {done:,} of {rows:,} rows, {left}", file=sys.stderr, flush=True)
            last = now
        yield part


def _cell(value: Any) -> Any:  # noqa: ANN401  (a cell may be anything)
    if isinstance(value, str):
        return guarded(value)
    return "" if value is None or value != value else value
