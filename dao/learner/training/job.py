"""What `fit` is given, whom it tells, and what it gives back."""

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

ROW_EXPERT = (
    "(domain)"  # no name of a task; beside the tasks' targets: the number of each row's expert
)


class Progress(Protocol):
    """Told of every step and validation, with the rows that go into the history."""

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """After a training step; `total` is the number of all steps."""

    def validation(self, row: Mapping[str, Any]) -> None:
        """After a validation."""

    def note(self, text: str) -> None:
        """What a reader should know before the first step."""


@dataclass(frozen=True)
class Fitted:
    """The selected model and how it came about.

    Attributes:
        model: the best model by validation, its dendrites taken off.
        description: the structure of its dendrites, what `dendritic.attach` takes.
        dendrites: their weights, what `dendritic.load` takes.
        report: the content of dendrites.json, or None where none were asked for.
        steps: optimizer steps done.
        best_step: the step after which the selected model was measured.
        seconds: time spent in training, validation and growth, over all resumptions.
        ended: the step after which growth was over and the best model was put back, or None.
        thrown_away: steps between a best model and the moment at which it was put back, all told.
        planned: where training stopped early, the steps that all epochs would have had; else None.
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
    """What is to be fitted, on what, how, and where the record goes.

    Attributes:
        model: fresh, on its device.
        tasks: by name, in the order of the heads.
        train: rows with a label for at least one task.
        validation: rows to select by.
        pad: token id to pad with.
        cfg: the whole run's settings.
        folder: already created.
        progress: told of every step and validation.
        line_limit: pack the rows of a batch into lines of at most this many tokens.
        names: of the training rows, for messages.
        steps: train for exactly so many, whatever `train.epochs` says.
        validations: so many, instead of `train.validations_per_epoch`.
        selects: whether the weights that validate best are taken, or the last ones.
        router: with a model of experts, whether its router trains, by `train.targets[ROW_EXPERT]`.
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
