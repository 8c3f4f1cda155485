"""Losses of the batches of an optimizer step, the part of each batch, and the step's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dao import TaskRecord
from dao.learner.batches.batching import Batch, send
from dao.learner.kinds import Task
from dao.learner.model.experts import Experts
from dao.learner.settings.experts_section import ExpertSettings
from dao.learner.weighting.weighting import Weighting

__all__ = ["StepRecord", "parts_of", "router_losses", "task_losses"]

RowWeights = Mapping[str, Tensor]


def parts_of(row_weights: RowWeights, rows: Sequence[int], some: Sequence[int]) -> dict[str, float]:
    """The part that the rows `some` have in the mean loss of each task over `rows`.

    A task's mean over all rows is the sum over batches of the batch's mean times the batch's part.
    So the gradients of the batches of a step add up to the gradient of the whole step, also where
    rows lack labels or classes have weights.

    Args:
        row_weights: per task the weight of every row of the table in a mean, (rows,); 0 for a row
            without a label.
        rows: all rows of the step.
        some: the rows of a batch.

    Returns:
        Task -> part; a task of which no row has a label has no entry.

    Example:
        >>> weights = {"a": torch.tensor([1.0, 3.0, 0.0]), "b": torch.tensor([0.0, 0.0, 1.0])}
        >>> parts_of(weights, (0, 1, 2), (1,)), parts_of(weights, (0, 1), (1,))
        ({'a': 0.75, 'b': 0.0}, {'a': 0.75})
    """
    parts = {}
    for name, weights in row_weights.items():
        whole = float(weights[list(rows)].sum())
        if whole:
            parts[name] = float(weights[list(some)].sum()) / whole
    return parts


def task_losses(
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    batch: Batch,
    row_weights: RowWeights,
    factors: Mapping[str, float],
) -> dict[str, Tensor | None]:
    """The mean loss of each task over the rows of a batch with a label; None where none has one.

    Args:
        tasks: by name.
        outputs: per task (batch, outputs of the task).
        batch: with the targets, on the device of the outputs.
        row_weights: as for `parts_of`, on the host.
        factors: what each loss is multiplied by.
    """
    losses: dict[str, Tensor | None] = {}
    for name, task in tasks.items():
        # Rows are looked up on the host, which would have to wait for a mask on the device.
        known = row_weights[name][list(batch.rows)].nonzero()[:, 0]
        known = send(known, batch.input_ids.device)
        found, targets = outputs[name][known], batch.targets[name][known]
        losses[name] = factors[name] * task.loss(found, targets) if len(known) else None
    return losses


def router_losses(
    experts: Experts, cfg: ExpertSettings, domains: Tensor, part: float
) -> dict[str, Tensor]:
    """The weighted loss of a router that trains, and its parts, all times `part`.

    Args:
        experts: the experts and the router, after they have seen the batch.
        cfg: the weights of the router's two losses.
        domains: the number of each row's expert, (batch,).
        part: share of the batch in the rows of the optimizer step. The loss of balance compares
            mean weights of the experts with the mix of domains in each batch by itself.
    """
    found = experts.loss(domains)
    total = cfg.router_weight * found.domain + cfg.balance_weight * found.balance
    return {name: part * value for name, value in {"loss": total, **found._asdict()}.items()}


@dataclass
class StepRecord:
    """The record of an optimizer step, summed over its batches.

    Attributes:
        loss: the weighted sum of losses over all rows.
        tasks: a record per task: the loss is over all rows, and the rest is of the last batch.
        router: figures of a router that trains.
        measured: whether gradient norms were measured in any batch.
        broken: tasks whose gradient was measured in a batch and is not finite.
    """

    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    router: dict[str, Tensor] = field(default_factory=dict)
    measured: bool = False
    broken: list[str] = field(default_factory=list)

    def add(
        self,
        loss: Tensor,
        weighting: Weighting,
        parts: Mapping[str, float],
        router: Mapping[str, Tensor],
    ) -> None:
        """Add a batch.

        Args:
            loss: the batch's part of the weighted sum.
            weighting: the weighting, right after its call with this batch.
            parts: task -> part of the batch in the step; 1 for a task that is not named.
            router: figures of the router, multiplied by the batch's part of the rows.
        """
        self.loss = self.loss + loss
        for name, record in weighting.last.items():
            own = record.loss * parts.get(name, 1.0)
            before = self.tasks.get(name)
            self.tasks[name] = replace(record, loss=own if before is None else before.loss + own)
        for name, figure in router.items():
            self.router[name] = self.router.get(name, 0.0) + figure.detach()
        self.measured |= weighting.measured
        self.broken += weighting.broken
