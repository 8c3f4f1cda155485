"""Cells that stand for nothing, values that may do so, and labels that are no classes."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dao.errors import UserError
from dao.learner.basics.wording import count, listed, shown
from dao.learner.data.reading.filters import one_of
from dao.learner.data.reading.table import Columns

__all__ = ["DOUBTFUL", "Missing", "blanked", "dashed", "doubts", "refuse_no_classes"]

DOUBTFUL = ("na", "null", "none", "nil", "-", "--", "?", "n/a", "nan", "missing")
"""Words that are a class in some tables and nothing in others, in lower case."""
DECIMAL = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?|[+-]?\d+[eE]-\d+")
WHOLE = re.compile(r"[+-]?\d+")
BROKEN_DOWN, LOOKED_AT = 12, 100  # values of a breakdown, and of a column that may become one
DASH, PLUS = "-", "+"
MANY = 20  # classes above which a column is looked at for being none


class Missing:
    """Tells cells that stand for nothing, and counts them.

    Args:
        words: What such a cell holds beside nothing at all; numbers count as numbers.
        dashes: Columns in which a lone `-` is such a cell (`dashed`).

    Example:
        >>> missing = Missing(["N/A", "-999"])
        >>> [missing("score", cell) for cell in ("N/A", -999.0, "0", "", "none")]
        [True, True, False, False, False]
        >>> missing.counts
        {'score': {'N/A': 1, '-999.0': 1}}
    """

    def __init__(self, words: Sequence[str], dashes: Collection[str] = ()) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.empty: dict[str, int] = {}
        self._is_one: Callable[[object], bool] = one_of([word for word in words if word])
        self._nan = any(word.lower() == "nan" for word in words)
        self._dashes = dashes

    def __call__(self, column: str, cell: object) -> bool:
        """Whether a cell of a column holds one of the words; if so it is counted."""
        lacks = self.holds(column, cell)
        if lacks:
            self.add(column, cell)
        return lacks

    def holds(self, column: str, cell: object) -> bool:
        """Whether a cell of a column holds one of the words."""
        if cell is None or isinstance(cell, list | dict | bytes):
            return False
        if column in self._dashes and isinstance(cell, str) and cell.strip() == DASH:
            return True
        return self._nan if cell != cell else self._is_one(cell)

    def add(self, column: str, cell: object, number: int = 1) -> None:
        """Count cells of a column that hold one word; None stands for empty ones."""
        if cell is None:
            self.empty[column] = self.empty.get(column, 0) + number
            return
        found, word = self.counts.setdefault(column, {}), str(cell).strip()
        found[word] = found.get(word, 0) + number


def dashed(frames: Sequence[pd.DataFrame], columns: Columns) -> Columns:
    """The names, with the columns of targets, splits and domains where `-` stands for nothing.

    It does so beside two or more other values, none of which is `+`: the table then has more to
    say than `-` and its opposite.
    """
    if not columns.signs:
        return columns
    parts = ("split", "domain", *columns.targets)
    names = {columns.column(part) for part in parts}
    found = {name for name in names if _has_dashes([f[name] for f in frames if name in f])}
    return replace(columns, dashes=frozenset(found))


def blanked(
    frame: pd.DataFrame, names: Sequence[str], missing: Missing, columns: Columns
) -> pd.DataFrame:
    """The rows without the cells that stand for nothing in columns that can be a breakdown.

    Args:
        frame: Rows with the table's columns.
        names: Of the columns that nothing is learnt from; those of many values are passed over.
        missing: Tells such cells, and counts those of columns with 2 to `BROKEN_DOWN` values.
        columns: The user's names.
    """
    gone: dict[str, pd.Series] = {}
    for name in names:
        series = frame[name]
        if not series.map(pd.api.types.is_scalar).all() or series.nunique() > LOOKED_AT:
            continue
        cells = series.value_counts(dropna=True, sort=False)
        dashes = columns.signs and _has_dashes([pd.Series(cells.index, dtype=object)])
        lacking = {
            cell: number
            for cell, number in cells.items()
            if missing.holds(name, cell) or _stands_for_nothing(cell, dashes=dashes)
        }
        if 2 <= len(cells) - len(lacking) <= BROKEN_DOWN:
            for cell, number in lacking.items():
                missing.add(name, str(cell).strip() or None, number)
            if without := int(series.isna().sum()):
                missing.add(name, None, without)
        if lacking:
            gone[name] = series.astype(object).where(~series.isin(list(lacking)), None)
    return frame.assign(**gone) if gone else frame


def _stands_for_nothing(cell: object, *, dashes: bool) -> bool:
    return isinstance(cell, str) and (not cell.strip() or (dashes and cell.strip() == DASH))


def _has_dashes(cells: Sequence[pd.Series]) -> bool:
    words = {cell.strip() for part in cells for cell in part if isinstance(cell, str)}
    if DASH not in words or PLUS in words:
        return False
    numbers = (isinstance(cell, int | float) for part in cells for cell in part)
    return len(words - {DASH, ""}) > 1 or any(numbers)


def doubts(task: str, targets: Mapping[str, float]) -> list[str]:
    """What is odd about the classes of a task, in lines for a person.

    Example:
        >>> doubts("cls", {"none": 2, "up": 9})
        ['cls: `none` counts as a class, of 2 rows; if it means missing, add it to data.missing']
    """
    if not all(isinstance(rows, int) for rows in targets.values()):
        return []
    lines = [
        f"{task}: `{name}` counts as a class, of {count(int(rows))}; if it means missing, add it "
        f"to data.missing"
        for name, rows in targets.items()
        if name.lower() in DOUBTFUL
    ]
    lines += _only_in_case(task, targets)
    if len(targets) > MANY and _decimals(list(targets)):
        lines.append(
            f"{task}: its {len(targets)} classes are numbers with decimals; if they are scores, "
            f"learn them with --tasks {task}:regression"
        )
    return lines


def _only_in_case(task: str, names: Iterable[str]) -> list[str]:
    """Which names are one but for capital letters.

    Example:
        >>> _only_in_case("mark", ["NO", "Yes", "no", "yes"])[0][:58]
        'mark: NO and no, Yes and yes differ only in capital letter'
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    found = [" and ".join(group) for group in alike.values() if len(group) > 1]
    if not found:
        return []
    return [
        f"{task}: {listed(found)} differ only in capital letters and are learned apart; where they "
        f"mean the same, write them alike in the data"
    ]


def refuse_no_classes(frame: pd.DataFrame, columns: Columns, task: str) -> None:
    """Refuse a label column that names a class of its own for nearly every text.

    Args:
        frame: Rows with the columns `text` and that of the task.
        columns: The user's names.
        task: Name of the task.

    Raises:
        UserError: The column looks like a score, an identifier or free text.
    """
    labelled = frame[["text", task]].dropna().drop_duplicates()
    rows = Counter(labelled[task].tolist())
    texts, single = labelled["text"].nunique(), sum(number == 1 for number in rows.values())
    decimals = _decimals(list(rows))
    if len(rows) <= MANY or texts >= 2 * len(rows) or not (decimals or single >= 0.9 * len(rows)):
        return
    name, example = columns.column(task), next(iter(rows))
    if decimals:
        kind = f"numbers with decimals such as {example}, which look like a score"
        advice = f"Learn them with --tasks {task}:regression {task}.column={name}, or cut them "
        advice += f"into classes with {task}.column={name} {task}.cut=3."
    elif all(map(WHOLE.fullmatch, rows)):
        kind = f"numbers such as {example}, which look like a score or an identifier"
        advice = f"Learn a score with --tasks {task}:regression {task}.column={name}, or "
        advice += columns.advice([task])
    else:
        kind = f"such as {shown(example)}, which look like an identifier or free text"
        advice = f"Name the column of the classes with {task}.column=COLUMN."
    raise UserError(
        f"`{name}` should name classes that several texts share. Found {len(rows)} different "
        f"values for {count(texts, 'text')}, {kind}. {advice}"
    )


def _decimals(names: Sequence[str]) -> bool:
    """Whether these are numbers, some of them not whole."""
    numbers = all(DECIMAL.fullmatch(name) or WHOLE.fullmatch(name) for name in names)
    return numbers and any(map(DECIMAL.fullmatch, names))
