"""Files that clients send: read from a private folder, checked, predicted, given back as a table.

A client's name of a file is shown in messages, and its ending says the format. No path is made of
it.
"""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from xml.parsers.expat import ParserCreate
from zlib import error as ZlibError

from dao.errors import UserError
from dao.learner.basics.wording import one_line, short
from dao.learner.console.predictions import Columns, write_csv
from dao.learner.console.terminal import printable
from dao.learner.data.reading.table import Columns as Reading
from dao.learner.data.texts import Texts, read_texts
from dao.learner.serving.answers import plain
from dao.learner.serving.limits import Limits

__all__ = [
    "ENDINGS",
    "Encoding",
    "TooMuchError",
    "Upload",
    "as_csv",
    "as_rows",
    "read_upload",
    "shown_name",
    "told_without",
]

ENDINGS = (".csv", ".tsv", ".xlsx")
Encoding = Literal[
    "utf-8", "utf-16", "windows-1252", "latin-1", "iso-8859-2", "windows-1251", "koi8-r",
    "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr",
]  # fmt: skip
"""Those of text files that are read in one pass; some others of Python's take quadratic time."""
INNER = 16 << 20
"""Bytes of a part of an Excel file that is read whole, such as its styles."""
MARKS = 200_000
"""XML elements of such a part: Excel allows 65,490 formats of cells."""
OF_TEXT = 2
"""XML elements of the text of a cell."""
PIECE = 1 << 16
STREAMED = ("xl/worksheets/", "xl/sharedStrings.xml")


class TooMuchError(UserError):
    """What was sent is above a limit."""


class Upload(NamedTuple):
    """A file that a client sent.

    Attributes:
        content: Its bytes.
        name: What the client calls it, for messages.
    """

    content: BinaryIO
    name: str


def shown_name(name: str | None) -> str:
    """A client's name of a file without folders and control characters, cut where it is long.

    Example:
        >>> shown_name("../../etc/my table.csv"), shown_name(None)
        ('my table.csv', 'the file')
    """
    last = re.split(r"[\\/]", name or "")[-1]
    return short(printable(one_line(last))) or "the file"


def read_upload(upload: Upload, folder: Path, columns: Reading, limits: Limits) -> Texts:
    """The texts of an uploaded file, of which every row is known to be usable.

    Args:
        upload: The file.
        folder: An empty one of this request alone, which holds the file until it is predicted.
        columns: How it is read.
        limits: Of its size.

    Raises:
        UserError: It cannot be used.
        TooMuchError: It is above a limit.
    """
    ending = Path(upload.name).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{upload.name} should end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}. Found "
            f"{short(ending) or 'no ending'}. Save it as one of these."
        )
    path = folder / f"upload{ending}"
    with path.open("wb") as file:
        shutil.copyfileobj(upload.content, file)
    with told_without({str(path): upload.name}):
        if ending == ".xlsx":
            _check_book(path, limits)
        texts = read_texts(str(path), columns)
        _check_table(texts, path, limits)
    said = [line.replace(str(path), upload.name) for line in texts.said]
    return texts._replace(said=tuple(said))


def as_csv(parts: Sequence[Columns]) -> bytes:
    """Columns, some rows at a time, as CSV in UTF-8."""
    stream = io.StringIO(newline="")
    write_csv(parts, stream)
    return stream.getvalue().encode("utf-8", "replace")


def as_rows(parts: Sequence[Columns]) -> list[dict[str, Any]]:
    """Columns, some rows at a time, as rows that JSON has."""
    return [
        {name: plain(value) for name, value in zip(part, values, strict=True)}
        for part in parts
        for values in zip(*part.values(), strict=True)
    ]


@contextmanager
def told_without(paths: dict[str, str]) -> Iterator[None]:
    """Within the block, an error names the client's names in place of paths of this machine.

    Args:
        paths: Path to what is said in its place.
    """
    try:
        yield
    except UserError as error:
        line = str(error)
        for path, name in paths.items():
            line = line.replace(path, name)
        raise type(error)(line) from None


def _check_table(texts: Texts, path: Path, limits: Limits) -> None:
    cells = texts.number * len(texts.names)
    for found, most, what in (
        (texts.number, limits.rows, "rows"),
        (cells, limits.cells, "cells"),
    ):
        if found > most:
            raise _too_much(path, most, what, f"{found:,}")
    # An answer in JSON has the names of all columns in every row.
    before, total = 0, texts.number * sum(map(len, texts.names))
    for rows, some in texts.parts():
        total += sum(len(c) for cells in rows.values() for c in cells if isinstance(c, str))
        if total > limits.table:
            raise _too_much(path, limits.table, "characters", "more")
        for row, text in enumerate(some, start=before + 1):
            if len(text) > limits.characters:
                raise TooMuchError(
                    f"A text of {path} should have at most {limits.characters:,} characters. "
                    f"Found {len(text):,} in row {row}. Shorten it."
                )
        before += len(some)


def _check_book(path: Path, limits: Limits) -> None:
    """Refuse an Excel file that becomes too large as it is read; a damaged one is told later."""
    try:
        with zipfile.ZipFile(path) as book:
            parts = book.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, ZlibError):
        return
    unpacked = sum(part.file_size for part in parts)
    whole = [p for p in parts if p.filename.endswith((".xml", ".rels"))]
    whole = [p for p in whole if not p.filename.startswith(STREAMED)]
    if unpacked > limits.unpacked or any(part.file_size > INNER for part in whole):
        raise TooMuchError(
            f"{path} should have at most {limits.unpacked >> 20} MiB once it is unpacked. Found "
            f"more. Save its first sheet as CSV."
        )
    if find_spec("openpyxl") is not None:
        texts = _texts_of_cells(path)
        for name in {part.filename for part in whole} - {texts}:
            if _marks(path, name, MARKS) > MARKS:
                raise _too_much(path, MARKS, "marks of its format", "more")
        if texts and _marks(path, texts, OF_TEXT * limits.cells) > OF_TEXT * limits.cells:
            raise _too_much(path, limits.cells, "cells", "more")
        _check_cells(path, limits)


def _texts_of_cells(path: Path) -> str:
    """The part with the texts that cells refer to, wherever it is; empty where there is none."""
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.xml.constants import SHARED_STRINGS

    try:
        reader = ExcelReader(path, read_only=True)
    except Exception:  # as of `_check_cells`
        return ""
    try:
        reader.read_manifest()
        found = reader.package.find(SHARED_STRINGS)
        return "" if found is None else str(found.PartName).lstrip("/")
    except Exception:
        return ""
    finally:
        reader.archive.close()


def _marks(path: Path, part: str, most: int) -> int:
    """How many XML elements a part begins with before it ends, is damaged, or has too many.

    What is read whole takes up to a millisecond for each, and a few bytes can hold thousands.
    """
    count, parser = 0, ParserCreate()

    def begin(*_: object) -> None:
        nonlocal count
        count += 1

    parser.StartElementHandler = begin
    try:
        with zipfile.ZipFile(path) as book, book.open(part) as file:
            while count <= most and (some := file.read(PIECE)):
                parser.Parse(some)
    except Exception:  # as of `_check_cells`: of packing, of a password, of XML
        return count
    return count


def _check_cells(path: Path, limits: Limits) -> None:
    """Count the cells of the first sheet one row at a time: a gap between two counts as well."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception:  # of its own, of zipfile and of XML: the reader tells what is damaged
        return
    try:
        page = next(iter(book.worksheets), None)
        if page is None:
            return
        page.reset_dimensions()
        cells = 0
        for row in page.iter_rows(values_only=True):
            cells += max(1, len(row))
            if cells > limits.cells:
                raise _too_much(path, limits.cells, "cells", "more")
    except TooMuchError:
        raise
    except Exception:
        return
    finally:
        book.close()


def _too_much(path: Path, most: int, what: str, found: str) -> TooMuchError:
    return TooMuchError(
        f"{path} should have at most {most:,} {what}. Found {found}. Split it, or run: dao predict "
        f"RUN --input FILE"
    )
