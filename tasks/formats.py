"""File formats: the bytes of a file to columns of plain Python values.

Nothing is interpreted here: an empty cell of a CSV is the empty string, null is None, and a NaN
stays a NaN.
"""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from dao.spreadsheets import is_guarded, unguarded
from tasks.progress import ticking
from tasks.table import Columns

__all__ = ["FORMATS", "Rows", "as_columns"]

Rows = dict[str, list[Any]]
TARGETS = tuple(Columns().targets)


# The default refuses cells above 128 KiB.
csv.field_size_limit(2**31 - 1)


def _separated(separator: str) -> Callable[[bytes, Columns], Rows]:
    def parse(content: bytes, _: Columns) -> Rows:
        # Not pandas: it makes one missing value of an empty cell and "nan", and pads short rows.
        # Strict, because a quote that nobody closes would otherwise swallow all rows behind it.
        stream = io.StringIO(_text(content), newline="")
        reader = csv.reader(stream, delimiter=separator, strict=True)
        try:
            return _columns(reader)
        except csv.Error as error:
            raise ValueError(f"{error}, up to line {reader.line_num}") from None

    return parse


def _columns(reader: Any) -> Rows:  # noqa: ANN401  (csv's type has no public name)
    header = next((row for row in reader if row), [])
    if len(set(header)) < len(header):
        raise ValueError(f"two columns of one name among {', '.join(header)}")
    clean = unguarded if is_guarded(header, TARGETS) else str
    columns: list[list[Any]] = [[] for _ in header]
    for row in ticking(reader, "reading"):
        if row and len(row) != len(header):
            raise ValueError(
                f"{len(row)} cells in line {reader.line_num} under {len(header)} column names"
            )
        for column, cell in zip(columns, row, strict=False):
            column.append(clean(cell))
    return dict(zip(map(clean, header), columns, strict=True))


def _text(content: bytes) -> str:
    text = content.decode("utf-8-sig")
    if (place := text.find("\0")) >= 0:
        raise ValueError(f"a NUL character at position {place}; is it UTF-16?")
    return text


def _parquet(content: bytes, _: Columns) -> Rows:
    from pyarrow import parquet

    try:
        # By way of Arrow, because pandas turns null into NaN.
        file = parquet.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        rows: Rows = file.read().to_pydict()
    except Exception as error:  # pyarrow raises of its own and of Python's, whatever is damaged
        raise ValueError(str(error) or type(error).__name__) from None
    if len(set(names)) < len(names):
        raise ValueError(f"two columns of one name among {', '.join(names)}")
    return rows


def _json(content: bytes, _: Columns) -> Rows:
    records = _loads(content.decode("utf-8-sig"))
    if not isinstance(records, list):
        raise ValueError("no list of rows at the top")
    return as_columns(records)


def _json_lines(content: bytes, _: Columns) -> Rows:
    records = []
    lines = content.decode("utf-8-sig").split("\n")
    for number, line in enumerate(ticking(lines, "reading"), start=1):
        if line.strip():
            try:
                records.append(_loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg}") from None
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return as_columns(records)


def _loads(text: str) -> Any:  # noqa: ANN401
    """JSON in which no name occurs twice in one object, and no character is half a pair."""
    try:
        found = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    if "\\u" in text:  # only an escape can be half of a surrogate pair
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(r"half of a surrogate pair (\ud800 to \udfff alone)") from None
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"one name twice among {', '.join(name for name, _ in pairs)}")
    return found


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
