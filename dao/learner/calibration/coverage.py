"""Sets, intervals and flags of new texts at a coverage that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.numbers import percent
from dao.learner.basics.wording import count, listed
from dao.learner.calibration.conformal import largest_coverage, limit_of
from dao.learner.calibration.record import Calibration
from dao.learner.calibration.unlike import Familiar
from dao.learner.kinds import Task
from dao.learner.kinds.base import Array
from dao.learner.kinds.certainty.regions import Conformal

__all__ = ["UNLIKE", "UNSURE", "Covered", "check_coverage", "covered"]

UNSURE, UNLIKE = "unsure", "unlike"
"""Columns about the whole row."""
ANSWER = 0.0  # the nonconformity of the class that the model decides for
CLEARLY = 0.02  # less is a matter of chance


@dataclass(frozen=True)
class Covered:
    """Tasks with the limits of their regions at one coverage.

    Attributes:
        coverage: that was asked for.
        tasks: those that have regions, by name.
        limits: of the nonconformity, by task.
        familiar: what the training texts are like.
        left_out: tasks without regions.
        exceeded: by task, the share of the calibration rows whose set holds the truth, where that
            is clearly more than was asked for.
    """

    coverage: float
    tasks: Mapping[str, Conformal]
    limits: Mapping[str, float]
    familiar: Familiar
    left_out: Sequence[str] = ()
    exceeded: Mapping[str, float] = field(default_factory=dict)

    def columns(
        self, outputs: Mapping[str, Tensor], ids: Sequence[Sequence[int]]
    ) -> dict[str, list[Any]]:
        """`NAME_set`, or `NAME_low` and `NAME_high`, per task; `unsure` and `unlike` of the rows.

        A row is unsure where the set of a task has several classes; without a task that has sets
        there is no such column. It is unlike the training texts as `Familiar.unlike` says.

        Args:
            outputs: of the model, task -> (n, outputs of the task).
            ids: the token ids of the n texts.
        """
        found: dict[str, list[Any]] = {}
        for name, task in self.tasks.items():
            found |= task.region(outputs[name], self.limits[name])
        if unsure := self.unsure(outputs):
            found[UNSURE] = np.any([*unsure.values()], axis=0).tolist()
        return found | {UNLIKE: self.familiar.unlike(ids).tolist()}

    def unsure(self, outputs: Mapping[str, Tensor]) -> dict[str, Array]:
        """Of each task that has sets, which rows have one of several classes: task -> (n,)."""
        each = {n: task.unsure(outputs[n], self.limits[n]) for n, task in self.tasks.items()}
        return {name: rows for name, rows in each.items() if rows is not None}

    def notes(self) -> list[str]:
        """Lines on the tasks without sets and intervals, and on those whose sets hold more."""
        lines = [
            f"{name}: its sets hold the truth of {percent(share)} of the validation rows, which is "
            f"more than asked, because each set holds at least the answer; ask for more than "
            f"{percent(share)} to get sets of several classes"
            for name, share in self.exceeded.items()
        ]
        if self.left_out:
            lines.append(
                f"no sets or intervals for {listed(list(self.left_out))}: those need one class, "
                f"level or number per text, and validation rows that have it"
            )
        return lines


def check_coverage(coverage: float) -> float:
    """The coverage, if it is one.

    Raises:
        UserError: it is not between 0 and 1.
    """
    if not 0 < coverage < 1:  # NaN is refused as well
        raise UserError(
            f"`coverage` should be between 0 and 1, such as 0.9. Found {coverage:g}. Give the "
            f"share of the texts whose set or interval is to hold the truth."
        )
    return coverage


def covered(tasks: Mapping[str, Task], calibration: Calibration, coverage: float) -> Covered:
    """The tasks of a run at a coverage.

    Args:
        tasks: with their temperatures, by name.
        calibration: of the run.
        coverage: the share of new texts like the validation texts whose region holds the truth.

    Raises:
        UserError: `coverage` is no share; no task has regions; a task has too few validation rows
            for this coverage.
    """
    check_coverage(coverage)
    able = {
        name: task
        for name, task in tasks.items()
        if isinstance(task, Conformal) and name in calibration.scores
    }
    if not able:
        raise UserError(
            f"`coverage` should be asked of a task with one class, level or number per text, and "
            f"with validation rows that have it. Found none in {listed(list(tasks))}. Leave it out."
        )
    limits: dict[str, float] = {}
    for name in able:
        limit = limit_of(calibration.scores[name], coverage)
        if limit is None:
            raise UserError(too_few(name, len(calibration.scores[name]), coverage))
        limits[name] = limit
    left_out = [name for name in tasks if name not in able]
    alone = [n for n in able if able[n].region_size == "classes" and limits[n] == ANSWER]
    held = {name: float(np.mean(calibration.scores[name] <= ANSWER)) for name in alone}
    exceeded = {name: share for name, share in held.items() if coverage + CLEARLY < share < 1}
    return Covered(coverage, able, limits, calibration.familiar, left_out, exceeded)


def too_few(task: str, rows: int, coverage: float) -> str:
    """What to say where a task has too few validation rows for a coverage."""
    needed = int(np.ceil(coverage / (1 - coverage) - 1e-9))
    most = np.floor(largest_coverage(rows) * 1000) / 1000
    return (
        f"A coverage of {coverage:g} needs {count(needed)} of validation with a target of {task}. "
        f"Found {rows}, which allow at most {most:g}. Ask for less, or train with more validation "
        f"rows."
    )
