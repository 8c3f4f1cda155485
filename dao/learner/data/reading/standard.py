"""A source under the user's column names to rows under the table's own."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import count, short, shown
from dao.learner.data.reading.absent import DOUBTFUL, Missing
from dao.learner.data.reading.formats import other_separator
from dao.learner.data.reading.hints import headless
from dao.learner.data.reading.progress import ticking
from dao.learner.data.reading.sources import SEPARATED, Raw
from dao.learner.data.reading.table import Columns
from dao.learner.data.reading.two_texts import joined
from dao.learner.kinds.base import Parser

__all__ = [
    "hint",
    "parse_prose",
    "parse_split",
    "parse_text",
    "require_named",
    "require_text_and_target",
    "standard",
    "without_other_splits",
]

UNNAMED = re.compile(r"\s*|Unnamed: \d+(_level_\d+)?|__index_level_\d+__")  # of pandas
ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def parse_text(cell: object) -> str | None:
    """Turn a cell into a text without space around it, None where it is empty.

    Raises:
        ValueError: The cell holds bytes.
    """
    if cell is None or cell != cell:  # NaN alone differs from itself
        return None
    if isinstance(cell, bytes):
        raise ValueError("text, not bytes")
    return str(cell).strip() or None


def parse_prose(cell: object) -> str | None:
    """Turn a cell of the text column into a text, None where it is empty.

    Raises:
        ValueError: The cell holds a number, a date, a list or anything else that is no text.
    """
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return None
    if not isinstance(cell, str):
        raise ValueError("text, or empty where it is missing")
    return parse_text(cell)


def parse_split(cell: object) -> str | None:
    """Turn a user's word for a split into train, validation or test, None where it is empty.

    Raises:
        ValueError: The word is none of the known ones.
    """
    word = parse_text(cell)
    if word is None:
        return None
    if word.lower() not in ALIASES:
        raise ValueError("train, validation or test (or training, valid, val, dev, eval, testing)")
    return ALIASES[word.lower()]


def require_text_and_target(raw: Sequence[Raw], columns: Columns, tasks: Sequence[str]) -> None:
    """Check that every source has the text and a target.

    Raises:
        UserError: One has not.
    """
    for part in raw:
        texts = [["text"], ["second"]] if columns.second else [["text"]]
        for needed in (*texts, tasks):
            if not any(columns.column(name) in part.frame for name in needed):
                raise _absent(needed, [part], columns)


def require_named(raw: Sequence[Raw], columns: Columns, tasks: Sequence[str]) -> None:
    """Check that every column that was asked for by name is in some source.

    Raises:
        UserError: One is in none.
    """
    # The usual names of these three may be absent.
    renamed = [n for n in ("split", "domain", "id") if columns.column(n) not in ("", n)]
    for name in [*tasks, *renamed]:
        if not any(columns.column(name) in part.frame for part in raw):
            raise _absent([name], raw, columns)


def _absent(parts: Sequence[str], raw: Sequence[Raw], columns: Columns) -> UserError:
    names = " or ".join(f"`{columns.column(part)}`" for part in parts)
    sources = " or ".join(part.source for part in raw)
    found = dict.fromkeys(str(name) for part in raw for name in part.frame.columns)
    advice = columns.advice(parts)
    if columns.settable and len(parts) > 1:  # no task has its column, so others may be meant
        advice = f"{advice.removesuffix('.')}, or learn other columns with --tasks COLUMN,COLUMN."
    return UserError(
        f"{names} should be a column of {sources}. Found: {', '.join(map(short, found))}"
        f"{hint(raw)} Add it, or {advice}"
    )


def hint(raw: Sequence[Raw]) -> str:
    """What may be wrong with the first line of a source, and the end of the sentence before it.

    Example:
        >>> hint([Raw("a.csv", pd.DataFrame({"text": ["rose"]}), "")])
        '.'
    """
    files = [part.frame for part in raw if Path(part.source).suffix.lower() in SEPARATED]
    found = [other_separator(list(frame.columns)) for frame in files]
    found += [
        ". " + said
        for frame in files
        if (said := headless({str(n): frame[n].tolist() for n in frame}))
    ]
    said = next(filter(None, found), "")
    return said if said.endswith(".") else f"{said}."


def without_other_splits(raw: Sequence[Raw], columns: Columns) -> tuple[list[Raw], list[str]]:
    """Hub data sets without splits such as `unsupervised`, and what was left out in words.

    A file is left as it is: an unknown word in it is more likely a slip.

    Raises:
        UserError: No split of a hub data set has a known name.
    """
    kept, notes = list(raw), []
    for place, part in enumerate(raw):
        if not part.hub:
            continue
        words = part.frame[columns.split]
        other = words.map(_is_other_split)
        if not other.any():
            continue
        names = ", ".join(sorted(set(words[other].map(str))))
        if other.all():
            raise UserError(
                f"{part.source} should have a split named train, validation or test. Found: "
                f"{names}. Download it as CSV, Parquet or JSON and give the path of that file."
            )
        kept[place] = part._replace(frame=part.frame[~other].reset_index(drop=True))
        notes.append(f"{part.source}: {count(other.sum())} left out, of the split {names}")
    return kept, notes


def _is_other_split(word: object) -> bool:
    try:
        parse_split(word)
    except ValueError:
        return True
    return False


def standard(
    raw: Raw, columns: Columns, targets: Mapping[str, Parser], missing: Missing | None = None
) -> pd.DataFrame:
    """One source under the table's own column names, its cells parsed.

    Columns without a part in this keep their names, unless the name is one of the table's own.
    Those without a name, such as the row numbers that pandas writes, are passed over.

    Args:
        raw: The source.
        columns: The user's names.
        targets: Task -> what turns a cell of its column into a target value.
        missing: Tells and counts the cells of targets, split and domain that stand for nothing.

    Raises:
        UserError: A cell cannot be used.
    """
    parsers: dict[str, Parser] = {
        "id": parse_text,
        "text": parse_prose if columns.rules > 1 else parse_text,
        "split": parse_split,
        "domain": parse_text,
        **targets,
    }
    index = raw.frame.index
    missing = missing or Missing(columns.missing, columns.dashes)
    frame = pd.DataFrame(index=index)
    counted: set[str] = set()
    for part, parse in parsers.items():
        # A column that several tasks read is counted once.
        again = columns.column(part) in counted
        seen = Missing(columns.missing, columns.dashes) if again else missing
        values = _parsed(raw, columns, part, parse, seen)
        if part in columns.told:
            counted.add(columns.column(part))
        if part == "text" and columns.second:
            seconds = _parsed(raw, columns, "second", parse, missing)
            values = joined(values, seconds, columns, raw.source)
        frame[part] = pd.Series(values, index=index, dtype=object)
    stem = Path(raw.source).stem
    ids = enumerate(frame["id"].tolist(), start=1)
    frame["id"] = pd.Series([given or f"{stem}-{row}" for row, given in ids], index, dtype=object)
    used = {*parsers, *map(columns.column, parsers), *columns.texts}
    others = [name for name in raw.frame.columns if name not in used]
    if columns.rules > 1:
        others = [name for name in others if not UNNAMED.fullmatch(str(name))]
    return frame.join(raw.frame[others])


def _parsed(raw: Raw, columns: Columns, part: str, parse: Parser, missing: Missing) -> list[Any]:
    column = columns.column(part)
    if not column or column not in raw.frame:
        return [None] * len(raw.frame)
    values: list[Any] = []
    marked = 0
    may_lack = part not in ("id", "text", "second")
    cells = ticking(raw.frame[column].tolist(), f"column {column}")
    for row, cell in enumerate(cells, start=1):
        try:
            lacks = may_lack and missing(column, cell)
            marked += lacks
            values.append(None if lacks else parse(cell))
        except ValueError as error:
            doubtful = columns.settable and may_lack and str(cell).strip().lower() in DOUBTFUL
            words = ",".join([str(cell).strip(), *columns.missing])
            word = f"If it means missing, give data.missing=[{words}]. "
            raise UserError(
                f"`{column}` of {raw.source} should be {error}. Found {shown(cell)} in row {row}. "
                f"{word if doubtful else ''}Correct it, or {columns.advice([part])}"
            ) from None
    if part in columns.told and (empty := values.count(None) - marked):
        missing.add(column, None, empty)
    return values
