"""The kinds of the tasks, proposed where nobody has given them."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from dao.errors import UserError
from dao.learner.data.reading.absent import Missing
from dao.learner.data.reading.sources import Raw
from dao.learner.data.reading.standard import parse_split, parse_text
from dao.learner.data.reading.table import Columns
from dao.learner.data.refusals import each
from dao.learner.kinds import TaskSettings
from dao.learner.kinds.declared import Undecided, task_settings
from dao.learner.kinds.proposal import Proposal, propose

__all__ = ["decided", "is_empty", "looked_at"]


def decided(
    raw: Sequence[Raw], columns: Columns, tasks: Mapping[str, TaskSettings]
) -> tuple[dict[str, TaskSettings], dict[str, str]]:
    """The settings of every task with a kind, and the reason of each kind that was proposed.

    A proposal rests on the rows that the split column leaves for training; where there is no such
    column, on all rows.

    Raises:
        UserError: The cells of a column suggest no kind; an option is not one of the kind's; all
            such tasks are named.
    """

    def settle(name: str, settings: Undecided) -> tuple[TaskSettings, str]:
        cells = [cell for part in raw for cell in _training(part, columns, settings.column)]
        proposal = propose(name, settings.column, cells)
        return _with_kind(name, settings, proposal), proposal.reason

    undecided = {n: own for n, own in tasks.items() if isinstance(own, Undecided)}
    settled = each(undecided, settle)
    found = {**tasks, **{name: settings for name, (settings, _) in settled.items()}}
    return found, {name: reason for name, (_, reason) in settled.items()}


def looked_at(raw: Sequence[Raw], columns: Columns) -> str:
    """On which rows the proposals of `decided` rest, in words."""
    split = [bool(columns.split) and columns.split in part.frame for part in raw]
    if all(split):
        return "the training rows"
    if any(split):
        return "the training rows, and all rows of sources without splits"
    return "all rows, before they were split"


def _with_kind(name: str, settings: Undecided, proposal: Proposal) -> TaskSettings:
    """The settings of a task with the kind that was proposed."""
    given = {key: value for key, value in settings.model_dump().items() if value not in ("", ())}
    try:
        return task_settings(name, {**proposal.options, **given, "kind": proposal.kind})
    except ValueError as error:
        raise UserError(
            f"{error}. The kind was proposed for {proposal.reason}; say which one it is with "
            f"--tasks {name}:KIND."
        ) from None


def _training(part: Raw, columns: Columns, column: str) -> list[Any]:
    """Cells of a column in the training rows, those that are not missing."""
    if column not in part.frame:
        return []
    missing = Missing(
        columns.missing, columns.dashes
    )  # of its own: the report counts each cell where it is read
    cells = part.frame[column].tolist()
    if columns.split and columns.split in part.frame:
        splits = part.frame[columns.split].tolist()
        trains = [missing(columns.split, split) or _trains(split) for split in splits]
        cells = list(compress(cells, trains))
    return [cell for cell in cells if not (missing(column, cell) or is_empty(cell))]


def _trains(split: object) -> bool:
    try:
        return parse_split(split) in (None, "train")
    except ValueError:
        return False  # refused where it is read


def is_empty(cell: object) -> bool:
    """Whether a cell holds nothing, or nothing but space."""
    return isinstance(cell, str | float | None) and parse_text(cell) is None
