"""One source, a file or a hub data set, as a frame of plain Python values."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.data.reading.excel import file_and_sheet, sheet_note
from dao.learner.data.reading.formats import FORMATS, SPOKEN, Rows, as_columns
from dao.learner.data.reading.hints import (
    WINDOWS,
    headless,
    is_utf8,
    is_windows,
    not_decoded,
    separator_of,
)
from dao.learner.data.reading.table import Columns

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "SEPARATED",
    "Raw",
    "check_file",
    "invalid",
    "is_hub_name",
    "located",
    "parse",
    "read",
    "remarks",
]

SEPARATED = (".csv", ".tsv")
TEXT = (*SEPARATED, ".json", ".jsonl")
HUB_NAME = re.compile(r"[\w-]+(/[\w.-]+)?(:[\w.-]+)?")


class Raw(NamedTuple):
    """A source as it was read, uninterpreted.

    Args:
        source: Path or name of the data set.
        frame: What it holds.
        digest: SHA-256 of the file or of the hub's rows.
        hub: Whether it came from the hub.
        said: What a person should know of how it was read.
    """

    source: str
    frame: pd.DataFrame
    digest: str
    hub: bool = False
    said: tuple[str, ...] = ()


def read(source: str, columns: Columns) -> Raw:
    """Read one source.

    Args:
        source: Path of a .csv, .tsv, .xlsx, .parquet, .json, .jsonl or .txt file (a sentence, `@`
            and its label on each line), `FILE.xlsx:SHEET`, or a hub data set as `owner/name` or
            `owner/name:config`.
        columns: Names for what carries none: the sentences and labels of a .txt file, and the
            splits of a hub data set.

    Raises:
        UserError: The source is missing, empty, unreadable or of an unknown format.
    """
    path, own = located(source, columns)
    hub = is_hub_name(source) and not path.exists()
    if hub:
        rows = _hub(source, columns.split)
        digest = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
    else:
        content = _content(path)
        rows = parse(path, content, own)
        digest = hashlib.sha256(content).hexdigest()
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in rows.items()})
    if frame.empty:
        raise UserError(f"{source} should have rows of data. Found none.")
    return Raw(source, frame, digest, hub, () if hub else _remarks(path, own, columns))


def located(source: str, columns: Columns) -> tuple[Path, Columns]:
    """The path of a source, and how it is read.

    Of a book, which sheet; of text, in which encoding; of a .csv file, what separates its cells.

    Raises:
        UserError: The file cannot be opened.
    """
    file, sheet = file_and_sheet(source)
    path = Path(file)
    columns = replace(columns, sheet=sheet)
    suffix = path.suffix.lower()
    if suffix not in TEXT or not path.is_file():
        return path, columns
    try:
        if is_utf8(columns.encoding) and is_windows(path):
            columns = replace(columns, encoding=WINDOWS)
        if suffix == ".csv":
            columns = replace(columns, separator=separator_of(path, columns.encoding))
    except OSError as error:
        raise _unreadable(path, error) from None
    return path, columns


def remarks(source: str, columns: Columns) -> tuple[str, ...]:
    """What a person should know of how a file that can be read is read."""
    return _remarks(*located(source, columns), columns)


def _remarks(path: Path, own: Columns, columns: Columns) -> tuple[str, ...]:
    if path.suffix.lower() == ".xlsx":
        return sheet_note(path.read_bytes(), own.sheet)
    said = []
    if own.encoding != columns.encoding:
        said.append(f"read as {WINDOWS}, because it is not UTF-8; data.encoding says another")
    if own.separator not in ("", ","):
        said.append(f"{SPOKEN[own.separator]} separates its cells, by its first line")
    return tuple(said)


def is_hub_name(source: str) -> bool:
    """Whether a source is written as a hub data set is."""
    # The suffix tells owner/name-1.0 from folder/data.csv.
    file, _ = file_and_sheet(source)
    return Path(file).suffix.lower() not in FORMATS and bool(HUB_NAME.fullmatch(source))


def check_file(path: Path) -> None:
    """Refuse what is no file of a known format.

    Raises:
        UserError: It is missing, a folder or of an unknown format.
    """
    if path.is_dir():
        raise UserError(f"{path} should be a file. Found a folder. Name one of the files in it.")
    if not path.is_file():
        raise UserError(
            f"{path} should be a file or a hub data set (owner/name). Found nothing there, seen "
            f"from {Path.cwd()}. Correct the path, or start from the folder it is relative to."
        )
    if path.suffix.lower() not in FORMATS:
        found = path.suffix or "no suffix"
        raise UserError(f"{path} should end in one of {', '.join(FORMATS)}. Found {found}.")


def _content(path: Path) -> bytes:
    check_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if not content.strip():
        raise UserError(
            f"{path} should have rows of data. Found an empty file. Give one with a header and a "
            f"row per text."
        )
    return content


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} should be readable. Found: {error.strerror}.")


def parse(path: Path, content: bytes, columns: Columns) -> Rows:
    """The columns of a file.

    Args:
        path: Its name, whose ending says the format.
        content: What is in it.
        columns: How it is read.

    Raises:
        UserError: It is not what its ending says.
    """
    suffix = path.suffix.lower()
    try:
        return FORMATS[suffix](content, columns)
    except UnicodeDecodeError as error:
        hint = _first_line(suffix, content, columns)
        raise UserError(not_decoded(path, error) + (hint and f" {hint}")) from None
    except UserError:
        raise
    except (ValueError, OSError) as error:  # what the parsers raise
        raise invalid(path, error) from None


def invalid(path: Path, error: Exception) -> UserError:
    """The error for a file that is not what its ending says."""
    reason = one_line(error)
    return UserError(f"{path} should be valid {path.suffix[1:].upper()}. Found: {reason}.")


def _first_line(suffix: str, content: bytes, columns: Columns) -> str:
    """A hint at a missing header in a file that the encoding does not fit."""
    if suffix not in SEPARATED:
        return ""
    try:
        rows = FORMATS[suffix](content, replace(columns, encoding="latin-1"))
    except ValueError:
        return ""
    return "" if columns.text in rows else headless(rows)


def _hub(source: str, split_column: str) -> Rows:
    import datasets

    name, _, config = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None)
    except (OSError, RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise UserError(
            f"{source} should be a file or a hub data set. Found: {reason}. Without the hub, "
            "download it as CSV, Parquet or JSON and give the path of that file."
        ) from None
    records = []
    for split, data in loaded.items():
        records += [{split_column: split, **row} for row in _named(data)]
    return as_columns(records)


def _named(data: Dataset) -> list[dict[str, Any]]:
    """Rows of a hub split, with class names where the hub stores indices (-1: withheld)."""
    rows: list[dict[str, Any]] = data.with_format(None).to_list()
    for column, feature in data.features.items():
        names = getattr(feature, "names", None)
        if names:
            for row in rows:
                index = row[column]
                row[column] = None if index is None or index < 0 else names[index]
    return rows
