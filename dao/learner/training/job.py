"""The arguments of `fit`, the progress that it tells, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from dao.learner.batches.batching import Examples
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.settings.config import Config
from dao.learner.storage.writing import RunRecord
from dao.learner.training.plan import Copied

__all__ = ["ROW_EXPERT", "Fitted", "Job", "Progress"]

ROW_EXPERT = "(domain)"
"""Where targets hold the number of each row's expert; no task can have this name."""


class Progress(Protocol):
    """Is told of every step and validation, by the rows that go into the logs."""

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Show a training step; `total` is the number of all steps."""

    def validation(self, row: Mapping[str, Any]) -> None:
        """Show a validation."""

    def note(self, text: str) -> None:
        """Show a line that a reader should know, mostly before the first step."""

    def of_stage(self, name: str, before: int) -> Progress:
        """The progress of a stage, whose steps begin at 1 after so many of the stages before.

        The last stage, from which the model is selected, has an empty name.
        """


@dataclass(frozen=True)
class Fitted:
    """The selected model and how it came about.

    Attributes:
        model: the best model by validation, its dendrites taken off.
        description: the structure of its dendrites, for `dendritic.attach`.
        dendrites: the weights of its dendrites, for `dendritic.load`.
        report: the content of dendrites.json; None where no dendrites were asked for.
        steps: optimizer steps done.
        best_step: the step after which the selected model was measured.
        restarts: steps after which dendrites were added, or the run restarted without any.
        seconds: time spent in training, validation and growth, over all resumptions.
        ended: the step after which growth was over and the best model was put back, or None.
        thrown_away: steps between a best model and the moment at which it was put back, all told.
        planned: the steps of all epochs, where training stopped early; else None.
        skipped: steps that were left out, over all resumptions.
        weights: task -> its `first` and its `last` loss weight; a task without any has no entry.
    """

    model: MultiTaskModel
    description: dict[str, Any]
    dendrites: dict[str, Tensor]
    report: dict[str, Any] | None
    steps: int
    best_step: int
    restarts: list[int]
    seconds: float
    ended: int | None = None
    thrown_away: int = 0
    planned: int | None = None
    skipped: int = 0
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """The model that is to be fitted, its data and settings, and the folder of the record.

    Attributes:
        model: fresh, on its device.
        tasks: by name, in the order of the heads.
        train: rows with a label for at least one task.
        validation: rows that select the model.
        pad: token id to pad with.
        cfg: the whole run's settings.
        folder: the run folder, which exists.
        progress: is told of every step and validation.
        line_limit: most tokens of a line into which rows are packed; None: rows are not packed.
        names: of the training rows, for messages.
        steps: number of steps, in place of `train.epochs`.
        validations: number of validations, in place of `train.validations_per_epoch`.
        selects: whether the result is the model that validates best; else it is the last one.
        router: whether the router of a model with experts trains, by `train.targets[ROW_EXPERT]`.
        copied: when another run grew, where `dendrites.growths_of` names one.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    train: Examples
    validation: Examples
    pad: int
    cfg: Config
    folder: RunRecord
    progress: Progress
    line_limit: int | None = None
    names: Sequence[str] = ()
    steps: int | None = None
    validations: int | None = None
    selects: bool = True
    router: bool = False
    copied: Copied | None = None
