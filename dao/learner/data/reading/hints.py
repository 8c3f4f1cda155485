"""What may be wrong with a file that cannot be read: its encoding, or its first line."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.learner.basics.limits import EXAMPLES
from dao.learner.basics.wording import short

__all__ = ["WINDOWS", "headless", "is_utf8", "is_windows", "not_decoded", "separator_of"]

WINDOWS = "windows-1252"
ZIP = b"PK\x03\x04"
"""How a zip archive begins, and so an Excel book."""
GUESSES = (WINDOWS, "latin-1")
"""Latin-1 gives every byte a meaning, so the last always reads."""
OUTSIDE = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]")
"""Control characters, and bytes that Windows-1252 lacks."""
BLOCK = 1 << 20  # bytes at a time
LONG = 25  # characters of a name above which a text with spaces is rather data
SEEN = 1000  # rows that are looked at


def separator_of(path: Path, encoding: str) -> str:
    """What separates the cells of a .csv file: a comma, unless its first line has none.

    A first line without a comma outside of quotes may be separated by `;`, as Excel writes where
    the comma is the decimal sign, by tabs, or by `|`.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            line = next((line for line in file if line.strip()), "")
    except (UnicodeError, LookupError):  # told by whoever reads the file
        return ","
    counts = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in ",;\t|"}
    return next((mark for mark, cells in counts.items() if cells > 1), ",")


def is_utf8(encoding: str) -> bool:
    """Whether this is a name of UTF-8."""
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def is_windows(path: Path) -> bool:
    """Whether a file is no UTF-8, but text of Windows-1252, which Excel gives a CSV.

    A control character or a byte that Windows-1252 lacks speaks against it. If most bytes beyond
    ASCII are letters of UTF-8, the file is a damaged one of UTF-8.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        strict = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(BLOCK):
                strict.decode(block)
            strict.decode(b"", final=True)
            return False
        except UnicodeDecodeError:
            file.seek(0)
        decoder, beyond, letters = codecs.getincrementaldecoder("utf-8")("ignore"), 0, 0
        while block := file.read(BLOCK):
            if OUTSIDE.search(block):
                return False
            beyond += _beyond_ascii(block)
            letters += _beyond_ascii(decoder.decode(block).encode())
    return 2 * letters < beyond


def _beyond_ascii(content: bytes) -> int:
    return len(content) - len(content.decode("ascii", "ignore"))


def not_decoded(path: Path, error: UnicodeDecodeError) -> str:
    """Which byte of a file is not in its encoding, and what would read the file.

    Args:
        path: The file.
        error: What decoding it raised.

    Returns:
        The error message.
    """
    content, place = bytes(error.object), error.start
    line = content.count(b"\n", 0, place) + 1
    said = error.encoding.replace("_", "-").upper().removesuffix("-SIG")
    found = f"{path} should be {said} text. Found byte 0x{content[place]:02x} in line {line}"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"{found}, as UTF-16 begins. Give data.encoding=utf-16, or save it as UTF-8."
    if content.startswith(ZIP):
        return f"{found}, of a zip archive such as an Excel book. If it is one, name it FILE.xlsx."
    if b"\0" in content:
        return f"{found}, and bytes of 0, which text lacks. Give a file of text."
    start = content.rfind(b"\n", 0, place) + 1
    end = content.find(b"\n", place)
    around = content[max(start, place - 15) : min(len(content) if end < 0 else end, place + 15)]
    for guess in GUESSES:
        try:
            content.decode(guess)
        except UnicodeDecodeError:
            continue
        name = "Windows-1252 (Latin-1)" if guess == "windows-1252" else "Latin-1"
        read = " ".join(around.decode(guess).split())
        return (
            f"{found}, which {name} reads as {content[place : place + 1].decode(guess)!r} in "
            f"{read!r}. If that is right, give data.encoding={guess}, or save it as UTF-8."
        )
    return f"{found}. Save it as UTF-8."


def headless(columns: Mapping[str, Sequence[Any]]) -> str:
    """A hint where the first line of a CSV or TSV file seems to be data; else nothing.

    Args:
        columns: Name -> cells, as they were read.

    Example:
        >>> headless({"up": ["down", "up"], "Profit rose.": ["Sales fell.", "Profit fell."]})
        "The first line ('up', 'Profit rose.') looks like data: put the columns' names above it."
        >>> headless({"label": ["up", "down"], "text": ["Profit rose.", "Sales fell."]})
        ''
    """
    again = any(name in cells[:SEEN] for name, cells in columns.items() if name)
    sentences = any(len(name) > LONG and " " in name.strip() for name in columns)
    if not again and not sentences:
        return ""
    shown = ", ".join(repr(short(name)) for name in list(columns)[:EXAMPLES])
    return f"The first line ({shown}) looks like data: put the columns' names above it."
