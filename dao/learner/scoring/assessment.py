"""The figures of a report: the model's, the baselines', the best reachable, the breakdowns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.spreadsheets import predicted_columns
from dao.learner.kinds import Task
from dao.learner.scoring.scoring import baselines, breakdown, measure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableLike", "assess", "plain_breakdown", "slice_columns"]

MAX_SLICES = 12


class TableLike(Protocol):
    """What the learner needs of a table; `dao.learner.data.reading.table.Table` is one."""

    @property
    def frame(self) -> pd.DataFrame:
        """Columns id, text, split, and one per task, None where it has no target."""

    @property
    def report(self) -> dict[str, Any]:
        """What was read, dropped and split, with a `fingerprint` of the rows; JSON-able."""

    def rows(self, split: str) -> pd.DataFrame:
        """The rows of train, validation or test, in order."""


def assess(
    outputs: Mapping[str, Tensor],
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    learnt: tuple[pd.DataFrame, pd.DataFrame] | None,
    ceilings: Mapping[str, dict[str, Any]],
    columns: tuple[str, ...],
) -> dict[str, Any]:
    """Figures on labelled rows.

    Args:
        outputs: the model's, task -> (n, outputs of the task), for `rows`.
        tasks: those to measure, by name.
        rows: n rows of a table.
        learnt: the training rows that the baselines learn from, and the validation rows that they
            choose by; None for no baselines.
        ceilings: best reachable figures per task, where they are known.
        columns: to break the figures down by; those that `rows` lacks are passed over.

    Returns:
        `splits`, `baselines`, `best_reachable` and `slices` of this one split.
    """
    import pandas as pd

    targets = _targets(rows, tasks)
    plain = {}
    if learnt is not None:
        train, validation = ((f["text"].tolist(), _targets(f, tasks)) for f in learnt)
        plain = baselines(tasks, train, (rows["text"].tolist(), targets), validation)
    values = {c: [None if pd.isna(v) else v for v in rows[c]] for c in columns if c in rows}
    return {
        "splits": measure(tasks, outputs, targets),
        "baselines": plain,
        "best_reachable": dict(ceilings),
        "slices": breakdown(tasks, outputs, targets, values),
    }


def plain_breakdown(
    table: TableLike, tasks: Mapping[str, Task], columns: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Figures of the plain models, learnt from all training rows, on parts of the test rows.

    Args:
        table: the data.
        tasks: fitted to the training rows, by name.
        columns: to break the test rows down by.

    Returns:
        Column -> value -> task -> plain model -> figures.
    """
    learnt, chosen = (
        (rows["text"].tolist(), _targets(rows, tasks))
        for rows in (table.rows("train"), table.rows("validation"))
    )
    test = table.rows("test")
    return {
        column: {
            str(value): baselines(
                tasks, learnt, (rows["text"].tolist(), _targets(rows, tasks)), chosen
            )
            for value, rows in test.groupby(column)
        }
        for column in columns
    }


def slice_columns(
    chosen: tuple[str, ...] | None,
    frame: pd.DataFrame,
    targets: Collection[str] = (),
    tasks: Collection[str] = (),
) -> tuple[str, ...]:
    """Columns to break the figures down by: those chosen, or every further one of few values.

    Args:
        chosen: names; None for what suits.
        frame: the rows.
        targets: columns that say what is to be predicted, which suit only where they are chosen.
        tasks: names of tasks; the same holds for columns with predictions of them.

    Raises:
        UserError: the data have no such column.
    """
    if chosen is None:
        taken = {*targets, *predicted_columns(frame.columns, tasks)}
        suitable = (c for c in frame.columns if not _own(c) and c not in taken)
        return tuple(c for c in suitable if _few(frame[c]))
    missing = [c for c in chosen if c not in frame]
    if missing:
        raise UserError(
            f"`data.slices` should name columns of the data. Found {missing[0]!r}. "
            f"There are: {', '.join(map(str, frame.columns))}."
        )
    return chosen


def _own(column: str) -> bool:
    """Columns that are no property of a row: `clean_...` is the noise-free truth of another."""
    return column in ("id", "text", "split") or column.startswith("clean_")


def _few(values: pd.Series) -> bool:
    import pandas as pd

    scalar = values.map(pd.api.types.is_scalar).all()
    return bool(scalar) and 2 <= values.nunique() <= MAX_SLICES


def _targets(rows: pd.DataFrame, tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    return {name: task.encode(rows[name].tolist()) for name, task in tasks.items()}
