"""From a model and labelled rows to figures: predictions, metrics, baselines, breakdowns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.batches.batching import Examples, collate, sorted_batches
from dao.learner.kinds import Task
from dao.learner.kinds.parts.figures import weighted_mean
from dao.learner.processes import ranks

__all__ = [
    "Engine",
    "baselines",
    "breakdown",
    "labels_of",
    "measure",
    "predict",
    "selection_score",
]


Rows = tuple[Sequence[str], Mapping[str, Tensor]]
"""Texts, and the encoded targets of each task."""


class Engine(Protocol):
    """What predicts: the model as it is trained, or one of `dao.learner.inference.engines`."""

    training: bool

    @property
    def heads(self) -> Iterable[str]:
        """The tasks, in order."""

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""

    def eval(self) -> object:
        """Switch to prediction."""

    def train(self, mode: bool = True) -> object:
        """Switch to training, or back to it."""

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, **cached: Tensor
    ) -> dict[str, Tensor]:
        """Token ids and mask (batch, length) to task -> outputs (batch, outputs of the task).

        `cached` is only given with examples that have states of frozen layers.
        """


def labels_of(tasks: Mapping[str, Task], examples: Examples) -> dict[str, Tensor]:
    """Per task a (rows,) mask of the rows that have a label of it."""
    return {name: task.labelled(examples.targets[name]) for name, task in tasks.items()}


@torch.no_grad()
def predict(
    model: Engine, examples: Examples, pad: int, batch_size: int = 64, *, shared: bool = False
) -> dict[str, Tensor]:
    """Outputs of every task for every row, in row order, on the CPU: task -> (n, outputs).

    With experts, their weights are among them.

    With `shared`, each rank predicts some of the batches and all of them get the same outputs of
    every row, those of one process; all ranks have to call it.
    """
    training = model.training
    model.eval()
    order: list[int] = []
    parts: dict[str, list[Tensor]] = {task: [] for task in model.heads}
    batches = list(sorted_batches(examples.lengths, batch_size))
    for rows in ranks.share(batches) if shared else batches:
        batch = collate(examples, rows, pad, model.device)
        cached = {} if batch.prefix is None else {"prefix": batch.prefix}
        for task, outputs in model(batch.input_ids, batch.attention_mask, **cached).items():
            parts.setdefault(task, []).append(outputs.float().cpu())
        order += rows
    model.train(training)
    found = ranks.gather((order, parts)) if shared else [(order, parts)]
    back = torch.tensor([row for rows, _ in found for row in rows]).argsort()
    return {task: torch.cat([c for _, p in found for c in p[task]])[back] for task in parts}


def measure(
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    rows: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics per task over all rows, or over those given; a task without a label is left out."""
    figures = {}
    for name, task in tasks.items():
        chosen = torch.arange(len(targets[name])) if rows is None else torch.tensor(rows)
        known = chosen[task.labelled(targets[name][chosen])]
        if len(known):
            figures[name] = task.metrics(outputs[name][known], targets[name][known])
    return figures


def selection_score(
    tasks: Mapping[str, Task],
    figures: Mapping[str, dict[str, Any]],
    weights: Mapping[str, float] | None = None,
) -> float:
    """The mean of the tasks' own scores; what validation selects by, in every arm.

    Args:
        tasks: by name.
        figures: task -> its figures; tasks without any take no part, nor do undefined scores.
        weights: of the tasks in the mean; 1 where none is given.

    Raises:
        UserError: no task has a score.
    """
    found = weighted_mean({name: tasks[name].score(figures[name]) for name in figures}, weights)
    if found is None:
        raise UserError(
            "The validation rows should allow a figure to select by. Found too few labels, or all "
            "alike. Give more validation rows."
        )
    return float(found)


def breakdown(
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    columns: Mapping[str, Sequence[object]],
) -> dict[str, dict[str, Any]]:
    """Column -> value -> metrics per task, over the rows that have this value."""
    result: dict[str, dict[str, Any]] = {}
    for column, values in columns.items():
        groups: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            groups.setdefault("" if value is None else str(value), []).append(row)
        result[column] = {
            value: measure(tasks, outputs, targets, rows)
            for value, rows in sorted(groups.items())
            if value
        }
    return result


def baselines(
    tasks: Mapping[str, Task],
    train: Rows,
    test: Rows,
    validation: Rows,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> baseline -> figures on the test rows.

    Args:
        tasks: by name.
        train: texts and targets per task to learn from.
        test: those to measure on.
        validation: those to choose by.
    """
    return {
        name: task.baselines(*((texts, y[name]) for texts, y in (train, test, validation)))
        for name, task in tasks.items()
        if task.labelled(test[1][name]).any()
    }
