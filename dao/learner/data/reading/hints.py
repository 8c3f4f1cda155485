"""What may be wrong with a file that cannot be read, in words that end an error message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.learner.basics.limits import EXAMPLES
from dao.learner.basics.wording import short

__all__ = ["headless", "not_decoded"]

GUESSES = ("windows-1252", "latin-1")
"""Latin-1 gives every byte a meaning, so the last always reads."""
LONG = 25  # characters of a name above which a text with spaces is rather data
SEEN = 1000  # rows that are looked at


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
