"""File formats: the bytes of a file to columns of plain Python values.

Nothing is interpreted here: an empty cell of a CSV is the empty string, null is None, and a NaN
stays a NaN.
"""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from tasks.table import Columns

__all__ = ["FORMATS", "Rows", "as_columns"]

Rows = dict[str, list[Any]]


def _separated(separator: str) -> Callable[[bytes, Columns], Rows]:
    def parse(content: bytes, _: Columns) -> Rows:
        # Not pandas: it makes one missing value of an empty cell and "nan", and pads short rows.
        reader = csv.reader(
            io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator
        )
        header = next((row for row in reader if row), [])
        if len(set(header)) < len(header):
            raise ValueError(f"two columns of one name among {', '.join(header)}")
        rows = []
        for row in reader:
            if row and len(row) != len(header):
                raise ValueError(
                    f"{len(row)} cells in line {reader.line_num} under {len(header)} column names"
                )
            if row:
                rows.append(row)
        return {name: [row[i] for row in rows] for i, name in enumerate(header)}

    return parse


def _parquet(content: bytes, _: Columns) -> Rows:
    from pyarrow import parquet

    # By way of Arrow, because pandas turns null into NaN.
    rows: Rows = parquet.read_table(io.BytesIO(content)).to_pydict()
    return rows


def _json(content: bytes, _: Columns) -> Rows:
    records = json.loads(content.decode("utf-8-sig"))
    if not isinstance(records, list):
        raise ValueError("no list of rows at the top")
    return as_columns(records)


def _json_lines(content: bytes, _: Columns) -> Rows:
    records = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg}") from None
    return as_columns(records)


def as_columns(records: list[Any]) -> Rows:
    """Turn a list of rows, each a mapping, into columns; what a row lacks is None."""
    names: dict[str, None] = {}
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ValueError(f"row {number} is no object with named values")
        names.update(dict.fromkeys(record))
    return {name: [record.get(name) for record in records] for name in names}


def _sentences(content: bytes, columns: Columns) -> Rows:
    """Financial PhraseBank: a sentence, `@` and its class on each line, mostly in Latin-1."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        lines = content.decode("latin-1").split("\n")
    sentences, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        sentence, mark, name = line.rpartition("@")
        if not mark:
            raise ValueError(f"line {number} has no @ before its label")
        sentences.append(" ".join(sentence.split()))
        labels.append(name.strip())
    return {columns.text: sentences, columns.targets.get("cls", "label"): labels}


FORMATS: dict[str, Callable[[bytes, Columns], Rows]] = {
    ".csv": _separated(","),
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".tsv": _separated("\t"),
    ".txt": _sentences,
}
"""Reader of each file name suffix."""
