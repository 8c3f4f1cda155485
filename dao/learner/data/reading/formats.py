"""File formats: the bytes of a file to columns of plain Python values.

Nothing is interpreted here: an empty cell of a CSV is the empty string, null is None, and a NaN
stays a NaN.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dao.learner.basics.spreadsheets import is_guarded, unguarded
from dao.learner.basics.wording import one_line, short
from dao.learner.data.reading.excel import sheet_rows
from dao.learner.data.reading.hints import is_utf8
from dao.learner.data.reading.progress import ticking
from dao.learner.data.reading.table import Columns

__all__ = [
    "FORMATS",
    "SPOKEN",
    "Rows",
    "as_columns",
    "json_records",
    "kept_columns",
    "nul_at",
    "other_separator",
    "separated",
]

Rows = dict[str, list[Any]]
SPOKEN = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "`|`"}

# The default refuses cells above 128 KiB.
csv.field_size_limit(2**31 - 1)


def _separated(separator: str) -> Callable[[bytes, Columns], Rows]:
    def parse(content: bytes, columns: Columns) -> Rows:
        stream = io.StringIO(_text(content, columns.encoding), newline="")
        return _columns_of(separated(stream, columns.separator or separator))

    return parse


def _columns_of(table: Iterator[list[str]]) -> Rows:
    """Rows of cells, the first of them the names of the columns, as columns."""
    header = next(table)
    cells: list[list[Any]] = [[] for _ in header]
    for row in ticking(table, "reading"):
        for column, cell in zip(cells, row, strict=False):
            column.append(cell)
    kept = kept_columns(header, list(map(any, cells)))
    return {header[place]: cells[place] for place in kept}


def _book(content: bytes, columns: Columns) -> Rows:
    return _columns_of(sheet_rows(content, columns.sheet))


def separated(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The names of the columns of a CSV or TSV file, then each row of cells, one at a time.

    A row may have empty cells beyond its columns.

    Raises:
        ValueError: The lines are no such file.
    """
    # Not pandas: it makes one missing value of an empty cell and "nan", and pads short rows.
    # Strict, because a quote that nobody closes would otherwise swallow all rows behind it.
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        header: list[str] = next((row for row in reader if row), [])
        _refuse_twice([name for name in header if name.strip()], header)
        clean = unguarded if is_guarded(header) else str
        yield list(map(clean, header))
        for row in reader:
            # A separator at the end of a line makes an empty cell without a column.
            if row and (len(row) < len(header) or any(row[len(header) :])):
                raise ValueError(
                    f"{len(row)} cells in line {reader.line_num} under {len(header)} column names"
                    f"{other_separator(header, separator)}"
                )
            if row:
                yield list(map(clean, row))
    except csv.Error as error:
        said = SPOKEN[separator]
        doubt = f", as {said} follows a cell in quotes" if "expected after" in str(error) else ""
        if "unexpected end" in str(error):
            doubt = "; a quotation mark that opens a cell is never closed"
        raise ValueError(f"{error}, up to line {reader.line_num}{doubt}") from None


def kept_columns(header: Sequence[str], filled: Sequence[bool]) -> list[int]:
    """The places of the columns of a CSV that are read.

    Of several columns of one name, those without name and cells are left out.

    Args:
        header: Their names.
        filled: Whether each has a cell that is not empty.

    Raises:
        ValueError: Two of one name remain.
    """
    places = list(range(len(header)))
    if len(set(header)) < len(header):
        places = [place for place in places if header[place].strip() or filled[place]]
        _refuse_twice([header[place] for place in places], header)
    return places


def _refuse_twice(names: Sequence[str], header: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"two columns of one name among {', '.join(map(short, header))}")


def other_separator(header: Sequence[str], separator: str = "") -> str:
    """A hint where a header seems to be separated by another character; else nothing.

    Example:
        >>> other_separator(["text;label"])
        "; the first line seems to be separated by ';', where a .csv file should have commas and a \
.tsv file tabs"
    """
    for mark, said in ((";", "';'"), ("\t", "tabs"), ("|", "'|'"), (",", "commas")):
        if mark != separator and len(header) == 1 and mark in header[0]:
            return (
                f"; the first line seems to be separated by {said}, where a .csv file should have "
                f"commas and a .tsv file tabs"
            )
    return ""


def _decoded(content: bytes, encoding: str) -> str:
    if is_utf8(encoding):
        return content.decode("utf-8-sig")
    return content.decode(encoding).removeprefix("\ufeff")


def _text(content: bytes, encoding: str) -> str:
    text = _decoded(content, encoding)
    if (place := text.find("\0")) >= 0:
        raise nul_at(place)
    return text


def nul_at(place: int) -> ValueError:
    """The error for a character that no text has."""
    return ValueError(
        f"a NUL character at position {place}, a sign of UTF-16: try data.encoding=utf-16"
    )


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


def _json(content: bytes, columns: Columns) -> Rows:
    records = _loads(_decoded(content, columns.encoding))
    if not isinstance(records, list):
        raise ValueError("no list of rows at the top")
    return as_columns(records)


def _json_lines(content: bytes, columns: Columns) -> Rows:
    lines = _decoded(content, columns.encoding).split("\n")
    return as_columns(list(json_records(ticking(lines, "reading"))))


def json_records(lines: Iterable[str]) -> Iterator[Any]:
    """The value on each line of a JSONL file; lines without any are passed over.

    Raises:
        ValueError: A line is no JSON.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg}") from None
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


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


def as_columns(records: list[Any], first: int = 1) -> Rows:
    """Turn a list of rows, each a mapping, into columns; what a row lacks is None.

    Args:
        records: The rows.
        first: The number of the first, for messages.
    """
    names: dict[str, None] = {}
    for number, record in enumerate(records, start=first):
        if not isinstance(record, dict):
            raise ValueError(f"row {number} is no object with named values")
        names.update(dict.fromkeys(record))
    return {name: [record.get(name) for record in records] for name in names}


def _sentences(content: bytes, columns: Columns) -> Rows:
    """Financial PhraseBank: a sentence, `@` and its class on each line, mostly in Latin-1."""
    try:
        lines = _decoded(content, columns.encoding).split("\n")
    except UnicodeDecodeError:
        if columns.encoding != "utf-8":
            raise
        lines = content.decode("latin-1").split("\n")
    sentences, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        sentence, mark, name = line.rpartition("@")
        if not mark:
            raise ValueError(f"line {number} has no @ before its label")
        sentences.append(one_line(sentence))
        labels.append(name.strip())
    return {columns.text: sentences, columns.labels: labels}


FORMATS: dict[str, Callable[[bytes, Columns], Rows]] = {
    ".csv": _separated(","),
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".tsv": _separated("\t"),
    ".txt": _sentences,
    ".xlsx": _book,
}
"""Reader of each file name suffix."""
