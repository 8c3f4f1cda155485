"""The logs of steps: history.jsonl and skipped.jsonl, and what is summed up of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.processes import ranks
from dao.learner.storage.history import History
from dao.learner.training.job import Job

__all__ = ["StepLog"]

ROWS_NAMED = 10
"""Rows of a step that an error lists."""


class StepLog:
    """The record of a run's steps.

    Args:
        job: of the run.
        total: the number of all steps.

    Attributes:
        history: writes a row per step.
        skipped: steps that were left out, over all resumptions.
        weights: task -> its `first` and its `last` loss weight; a task without any has no entry.
    """

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._total = job, total
        self.history = History(job.model.device, self._write, job.cfg.train.log_every)
        self.skipped = 0
        self.weights: dict[str, dict[str, float]] = {}

    @property
    def skips(self) -> bool:
        """Whether a step with a value that is not finite is left out, instead of ending the run."""
        return self._job.cfg.train.nonfinite == "skip"

    def goes_on(
        self, step: int, epoch: int, values: Mapping[str, Tensor], rows: Sequence[int]
    ) -> bool:
        """Whether a step goes on with these values; all ranks get the same answer.

        Where steps may be left out, the values are read at once, and a step that is left out is
        recorded and told. Otherwise the next reading of the history checks the values, and ends the
        run where one is not finite.

        Args:
            step: number of the step.
            epoch: number of the epoch.
            values: losses and norms of the step, a number each, by their names in messages.
            rows: numbers of the rows that the step trains.
        """
        if not self.skips:
            self.history.watch(step, values, rows)
            return True
        read = {what: value.item() for what, value in values.items()}
        bad = [(what, value) for what, value in read.items() if not math.isfinite(value)]
        bad = [found for of_rank in ranks.gather(bad) for found in of_rank]
        if not bad:
            return True
        what, value = bad[0]
        row = {"step": step, "epoch": epoch, "what": what, "value": str(value)}
        self._job.folder.append("skipped.jsonl", {**row, "rows": self._names(rows)})
        self._job.progress.note(f"step {step} left out: {what} is {value}")
        self.skipped += 1
        return False

    def diverged(self, what: str, found: float, step: int, rows: Sequence[int] = ()) -> UserError:
        """The error that tells a user of a number that is not finite."""
        names, cfg = self._names(rows), self._job.cfg.train
        where = f", of the rows {listed(names, ROWS_NAMED)}" if names else ""
        look = "Look at these rows, lower" if names else "Lower"
        skip = "" if self.skips else ", or leave such steps out with train.nonfinite=skip"
        return UserError(
            f"{what} should be finite. Found {found} at step {step}{where}. {look} train.lr (now "
            f"{cfg.lr}), use encoder.precision=fp32{skip}."
        )

    def resume(self, step: int) -> None:
        """Drop what was recorded after `step`, and sum up what was recorded before."""
        folder = self._job.folder
        folder.rewind(step)
        if not ranks.is_first():  # the first rank may not have dropped its rows yet
            return
        for row in folder.rows("history.jsonl"):
            self._remember(row)
        self.skipped = folder.count("skipped.jsonl")

    def _names(self, rows: Sequence[int]) -> list[str]:
        names = self._job.names
        return [names[row] if names else f"{row}" for row in rows]

    def _write(self, row: dict[str, Any]) -> None:
        self._job.folder.append("history.jsonl", row)
        self._remember(row)
        self._job.progress.step(row, self._total)

    def _remember(self, row: Mapping[str, Any]) -> None:
        for task, values in row["tasks"].items():
            weight = values["weight"]  # None where gradients are aggregated without weights
            if weight is not None and math.isfinite(weight):
                self.weights.setdefault(task, {"first": weight})["last"] = weight
