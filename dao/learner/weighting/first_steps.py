"""Weights that are settled by the first steps and then stand: by losses, or by gradient norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dao.importance import gradient_norm, inverse_norm_weights, task_gradients
from dao.learner.settings.weighting_spec import Spec
from dao.learner.weighting.weighting import Losses, Parameters, Weighting, present, record

__all__ = ["InitialLosses", "MeasuredThenFrozen", "make"]


def make(spec: Spec, tasks: Sequence[str], shared: Parameters) -> Weighting:
    """The weighting that `spec` names: `norm0` or `autoscale`."""
    steps = int(spec.numbers[0])
    if spec.name == "norm0":
        return InitialLosses(tasks, steps)
    return MeasuredThenFrozen(tasks, steps, shared)


class InitialLosses(Weighting):
    r"""`norm0`: each loss divided by its mean over the first steps, :math:`\sum_k L_k / \bar L_k`.

    A free baseline. In step :math:`t` of the first N that have task k, :math:`\bar L_k` is the mean
    of its absolute values so far; from then on it stands. Batches without a task do not count for
    it. A loss that was zero throughout, or never finite, has the weight 1.

    Args:
        tasks: their names, in order.
        steps: N.
    """

    total: Tensor
    count: Tensor

    def __init__(self, tasks: Sequence[str], steps: int) -> None:
        super().__init__()
        self.tasks, self.steps = list(tasks), steps
        self.register_buffer("total", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("count", torch.zeros(len(tasks), dtype=torch.int64))

    def backward(self, losses: Losses) -> Tensor:
        """One backward of the sum of the losses over their means."""
        live = present(losses)
        index = torch.tensor([self.tasks.index(task) for task in live], device=self.total.device)
        values = torch.stack([loss.detach().double() for loss in live.values()])
        counts = (self.count[index] < self.steps) & values.isfinite()
        self.total[index] += torch.where(counts, values.abs(), 0.0)
        self.count[index] += counts
        total = self.total[index]
        weights = torch.where(total > 0, self.count[index] / total, 1.0)
        return _weighted_backward(self, live, weights)


class MeasuredThenFrozen(Weighting):
    r"""AutoScale (arXiv 2508.13979) by its gradient magnitudes: measured first, then frozen.

    Weights :math:`w_k \propto 1 / \bar n_k`, which sum to K, give all weighted gradients of the
    shared parameters the same norm. In the first N steps that have task k, :math:`\bar n_k` is the
    geometric mean of its norms so far, measured at every step; from then on it stands, and a step
    is one backward. A task without a norm counts as average; a norm that is 0 or not finite does
    not count.

    Published for certain (the abstract): two phases, of which the first follows metrics of
    multi-task optimization, similar gradient magnitudes among them, and gives the fixed weights of
    the second. Second-hand: the first phase works in windows of steps, and condition number and
    loss scales are further criteria. Not known here: how long the first phase is, how its windows
    are joined, and which weights train the model meanwhile. N, the geometric mean and the running
    weights are this project's choices.

    Args:
        tasks: their names, in order.
        steps: N.
        shared: the parameters whose gradients are measured.
    """

    log_norm: Tensor
    count: Tensor
    seen: Tensor

    def __init__(self, tasks: Sequence[str], steps: int, shared: Parameters) -> None:
        super().__init__()
        self.tasks, self.steps, self._shared = list(tasks), steps, shared
        self.register_buffer("log_norm", torch.zeros(len(tasks), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(len(tasks), dtype=torch.int64))
        self.register_buffer("count", torch.zeros(len(tasks), dtype=torch.int64))

    def backward(self, losses: Losses) -> Tensor:
        """Norms of the tasks that are not settled, then one backward of the weighted sum."""
        live = present(losses)
        index = [self.tasks.index(task) for task in live]
        due = dict(zip(live, (self.seen[index] < self.steps).tolist(), strict=True))
        norms = {task: self._measure(task, live[task]) for task in live if due[task]}
        self.measured = bool(norms)
        return _weighted_backward(self, live, self._weights()[index], norms)

    def is_due(self, losses: Losses) -> bool:
        """Whether a task of the batch is still measured."""
        return any(
            loss is not None and bool(self.seen[self.tasks.index(task)] < self.steps)
            for task, loss in losses.items()
        )

    def _measure(self, task: str, loss: Tensor) -> Tensor:
        norm = gradient_norm(task_gradients(loss, self._shared())).to(self.log_norm.device)
        position = self.tasks.index(task)
        usable = norm.isfinite() & (norm > 0)
        before, count = self.log_norm[position], self.count[position] + 1
        moved = before + (norm.log() - before) / count
        self.log_norm[position] = torch.where(usable, moved, before)
        self.count[position] += usable
        self.seen[position] += 1
        return norm

    def _weights(self) -> Tensor:
        known = self.count > 0
        average = self.log_norm.sum() / known.sum().clamp(min=1)
        logs = torch.where(known, self.log_norm, average)
        return inverse_norm_weights(logs, total="tasks")


def _weighted_backward(
    weighting: Weighting,
    live: dict[str, Tensor],
    weights: Tensor,
    norms: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """One backward of the weighted sum; fills `last`."""
    by_task = dict(zip(live, weights.unbind(), strict=True))
    terms = [by_task[task].to(loss.dtype) * loss for task, loss in live.items()]
    total = torch.stack(terms).sum()
    torch.autograd.backward(total)
    weighting.last = {
        task: record(loss, by_task[task], (norms or {}).get(task)) for task, loss in live.items()
    }
    return total.detach()
