"""One optimizer step of one batch or several: losses, what each counts, what is recorded."""

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
    """Per task that `rows` have a label of, the part of its mean over them that is of `some`.

    The mean of a task over all rows is the sum over batches of its mean over each batch times that
    batch's part. So gradients of batches that share the rows add up to those of the whole, also
    where rows lack labels or classes have weights.

    Args:
        row_weights: per task what every row of the table counts in a mean, (rows,); 0 if unknown.
        rows: of the whole.
        some: those of them that a batch has.

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
) -> dict[str, Tensor | None]:
    """Per task the mean loss over the rows of a batch that have a label; None where none has.

    Args:
        tasks: by name.
        outputs: per task (batch, outputs of the task).
        batch: with the targets, on the device of the outputs.
        row_weights: as for `parts_of`, on the host.
    """
    losses: dict[str, Tensor | None] = {}
    for name, task in tasks.items():
        # Looked up on the host: a mask on the device would make it wait there.
        known = row_weights[name][list(batch.rows)].nonzero()[:, 0]
        known = send(known, batch.input_ids.device)
        found, targets = outputs[name][known], batch.targets[name][known]
        losses[name] = task.loss(found, targets) if len(known) else None
    return losses


def router_losses(
    experts: Experts, cfg: ExpertSettings, domains: Tensor, part: float
) -> dict[str, Tensor]:
    """The weighted loss of a router that trains, and what it is made of, times `part`.

    Args:
        experts: which have just seen the batch.
        cfg: the weights of the router's two losses.
        domains: the number of each row's expert, (batch,).
        part: what the batch counts among the rows of the optimizer step. The divergence of the
            experts' mean weights from the mix of domains is that of each batch.
    """
    found = experts.loss(domains)
    total = cfg.router_weight * found.domain + cfg.balance_weight * found.balance
    return {name: part * value for name, value in {"loss": total, **found._asdict()}.items()}


@dataclass
class StepRecord:
    """What the batches of one optimizer step did, added up.

    Attributes:
        loss: the weighted sum over all rows.
        tasks: a record per task: its loss over all rows, the rest as its last batch left it.
        router: figures of a router that trains.
        measured: whether norms were taken in any batch.
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
        """Take up a batch.

        Args:
            loss: the batch's part of the weighted sum.
            weighting: which has just been given the batch.
            parts: what each task's loss counts in the step; a task that is not named, all of it.
            router: figures, multiplied by the batch's part of the rows.
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
