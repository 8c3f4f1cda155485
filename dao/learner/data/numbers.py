"""Columns of numbers that are written with decimal commas or percent signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dao.learner.data.decide import decided, is_empty
from dao.learner.data.reading.absent import Missing
from dao.learner.data.reading.sources import Raw
from dao.learner.data.reading.table import Columns
from dao.learner.kinds import KINDS, TaskSettings
from dao.learner.kinds.base import Parser
from dao.learner.kinds.declared import Undecided
from dao.learner.kinds.guessing.written import COMMA, PERCENT, manners, plainly

__all__ = ["Written", "decided_plainly", "reads_numbers", "written_plainly"]

MARKS = {COMMA: ",", PERCENT: "%"}
Written = Mapping[str, Mapping[str, int]]
"""Task -> how its numbers are written -> in how many rows."""


def decided_plainly(
    raw: Sequence[Raw], columns: Columns, tasks: Mapping[str, TaskSettings]
) -> tuple[list[Raw], dict[str, TaskSettings], dict[str, str], dict[str, dict[str, int]]]:
    """The sources with plain numbers, what `decided` gives for these, and what was rewritten.

    A column whose kind is not given is rewritten only if the proposed kind reads numbers.

    Raises:
        UserError: As `decided`.
    """
    able = {name: _known(settings) for name, settings in tasks.items()}
    numbers = {name: known is True for name, known in able.items() if known is not False}
    while True:
        plain, written = written_plainly(raw, columns, numbers)
        every, proposed = decided(plain, columns, tasks)
        wrong = [name for name in written if not _known(every[name])]
        if not wrong:
            return plain, every, proposed, written
        numbers = {name: known for name, known in numbers.items() if name not in wrong}


def _known(settings: TaskSettings) -> bool | None:
    """Whether a task reads numbers; None where its kind is not decided."""
    if isinstance(settings, Undecided):
        return None
    return reads_numbers(KINDS[settings.kind].parser(settings))


def reads_numbers(parse: Parser) -> bool:
    """Whether this makes numbers of cells, rather than names."""
    return isinstance(parse("1"), float)


def written_plainly(
    raw: Sequence[Raw],
    columns: Columns,
    tasks: Mapping[str, bool],
    trained: Written | None = None,
) -> tuple[list[Raw], dict[str, dict[str, int]]]:
    """The sources with plain numbers in the columns that all rows write alike, and which these are.

    Args:
        raw: The sources.
        columns: The user's names.
        tasks: Those that may be rewritten, and whether they are known to be numbers.
        trained: How the numbers were written that a model was trained on. Without percent signs
            there, a percentage is left as it is, and so refused: its unit may be another.
    """
    kept = list(raw)
    written: dict[str, dict[str, int]] = {}
    for column, names in _by_column(columns, tasks).items():
        before = {how for name in names for how in (trained or {}).get(name, ())}
        words = _words(kept, columns, column)
        known = any(tasks[name] for name in names)
        found = manners(words, numbers=known, commas=COMMA in before)
        if not found or (trained is not None and PERCENT in found and PERCENT not in before):
            continue
        counts = {how: sum(MARKS[how] in word for word in words) for how in found}
        written |= dict.fromkeys(names, counts)
        kept = [_rewritten(part, columns, column) for part in kept]
    return kept, written


def _by_column(columns: Columns, tasks: Mapping[str, bool]) -> dict[str, list[str]]:
    """The tasks of every column that nothing else reads, which would see its cells as they are."""
    others = {columns.column(name) for name in columns.targets if name not in tasks}
    others |= {*columns.texts, columns.split, columns.domain, columns.id}
    found: dict[str, list[str]] = {}
    for name in tasks:
        if columns.column(name) not in others:
            found.setdefault(columns.column(name), []).append(name)
    return found


def _words(raw: Sequence[Raw], columns: Columns, column: str) -> list[str]:
    """The cells that are not missing; none where one is no text."""
    missing = Missing(
        columns.missing, columns.dashes
    )  # of its own: the report counts each cell where it is read
    cells = [cell for part in raw if column in part.frame for cell in part.frame[column].tolist()]
    filled = [c for c in cells if not (missing(column, c) or is_empty(c))]
    words = [cell.strip() for cell in filled if isinstance(cell, str)]
    return words if len(words) == len(filled) else []


def _rewritten(part: Raw, columns: Columns, column: str) -> Raw:
    if column not in part.frame:
        return part
    missing = Missing(columns.missing, columns.dashes)
    cells = [
        plainly(cell.strip()) if isinstance(cell, str) and not missing(column, cell) else cell
        for cell in part.frame[column].tolist()
    ]
    series = pd.Series(cells, index=part.frame.index, dtype=object)
    return part._replace(frame=part.frame.assign(**{column: series}))
