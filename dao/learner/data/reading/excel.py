"""Sheets of Excel books (.xlsx): their cells as the text that the same sheet has as CSV."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.basics.wording import listed, shown

if TYPE_CHECKING:
    from openpyxl import Workbook

__all__ = ["file_and_sheet", "sheet_note", "sheet_rows"]

NAMED = re.compile(r"(.+\.xlsx):(.+)", re.IGNORECASE | re.DOTALL)
LOCKED = b"\xd0\xcf\x11\xe0"
"""How a file begins that Excel wrote with a password, or before 2007."""


def file_and_sheet(source: str) -> tuple[str, str]:
    """The file of a source, and the sheet that is named behind it; empty where none is.

    Example:
        >>> file_and_sheet("in/my.xlsx:May"), file_and_sheet("my.csv")
        (('in/my.xlsx', 'May'), ('my.csv', ''))
    """
    found = NAMED.fullmatch(source)
    return (found[1], found[2]) if found else (source, "")


def sheet_rows(content: bytes, sheet: str) -> Iterator[list[str]]:
    """The names of the columns, then each row of cells that is not empty; a formula as its value.

    Args:
        content: Of the file.
        sheet: Its name; empty: the first.

    Raises:
        UserError: The package that reads Excel is not installed.
        ValueError: The file is no Excel book, there is no such sheet, or its rows are no table.
    """
    values = _cells(content, sheet)
    rows = ((number, _stripped(list(map(_text, row)))) for number, row in enumerate(values, 1))
    filled = ((number, row) for number, row in rows if row)
    _, header = next(filled, (0, []))
    yield header
    for number, row in filled:
        if len(row) > len(header):
            raise ValueError(
                f"a cell in row {number} at place {len(row)} under {len(header)} column names"
            )
        yield row + [""] * (len(header) - len(row))


def sheet_note(content: bytes, sheet: str) -> tuple[str, ...]:
    """Which sheet is read, where nobody has named one of several."""
    book = _opened(content, formulas=False)
    first, *others = [own.title for own in book.worksheets]
    book.close()
    if sheet or not others:
        return ()
    return (
        f"read from its first sheet, `{first}`; FILE.xlsx:SHEET names one of the others, "
        f"{listed(others)}",
    )


def _cells(content: bytes, sheet: str) -> list[tuple[Any, ...]]:
    values = _values(content, sheet, formulas=False)
    if any(cell is None for row in values for cell in row) and _has_formulas(content):
        # A program that computes nothing stores a formula without its value.
        for number, (row, typed) in enumerate(
            zip(values, _values(content, sheet, formulas=True), strict=True), start=1
        ):
            for cell, formula in zip(row, typed, strict=False):
                if cell is None and formula is not None:
                    raise ValueError(
                        f"the formula {shown(formula)} in row {number} without a value; open the "
                        f"file in Excel or LibreOffice and save it"
                    )
    return values


def _values(content: bytes, sheet: str, formulas: bool) -> list[tuple[Any, ...]]:
    book = _opened(content, formulas)
    try:
        own = {page.title: page for page in book.worksheets}
        if not own or (sheet and sheet not in own):
            raise ValueError(f"no sheet {sheet!r}, only {listed(list(own))}")
        page = own[sheet] if sheet else next(iter(own.values()))
        page.reset_dimensions()  # what a file says of its own size may be wrong
        return list(page.iter_rows(values_only=True))
    except ValueError:
        raise
    except Exception as error:  # whatever is damaged inside
        raise _damaged(error) from None
    finally:
        book.close()


def _opened(content: bytes, formulas: bool) -> Workbook:
    if find_spec("openpyxl") is None:
        raise UserError(
            f"An Excel file should be read with the package openpyxl. Found it not installed. "
            f"Run: {install('excel')}"
        )
    from openpyxl import load_workbook

    if content.startswith(LOCKED):
        raise ValueError(
            "a file with a password, or one of Excel before 2007; save it as .xlsx without password"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it leaves out, such as drop-down lists
            return load_workbook(io.BytesIO(content), read_only=True, data_only=not formulas)
    except Exception as error:  # of its own, of zipfile and of XML
        raise _damaged(error) from None


def _damaged(error: Exception) -> ValueError:
    return ValueError(f"a damaged file, or none of Excel: {error or type(error).__name__}")


def _has_formulas(content: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        pages = [name for name in book.namelist() if name.startswith("xl/worksheets/")]
        return any(b"<f" in book.read(name) for name in pages if name.endswith(".xml"))


def _text(cell: object) -> str:
    """A cell as text: whole numbers without decimals, dates as ISO 8601 has them."""
    if cell is None:
        return ""
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date().isoformat()
    if isinstance(cell, date | time):  # a datetime is a date
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    return str(cell)


def _stripped(row: Sequence[str]) -> list[str]:
    """A row without the empty cells at its end."""
    last = max((place for place, cell in enumerate(row, 1) if cell.strip()), default=0)
    return list(row[:last])
