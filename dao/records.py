"""What each task did in one training call."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dao.measure import LiveLosses
from dao.state import RunningNorms

__all__ = ["CallRecord", "TaskRecord", "numbers", "record_of", "scaled", "weighted_sum"]


@dataclass(frozen=True)
class TaskRecord:
    """What one task did in the last training call; float64 scalars, detached.

    The loss may be on the model's device while the rest is where :class:`dao.DAOLoss` is.

    Attributes:
        loss: The loss, mean over the ranks that have the task.
        weight: The weight it was multiplied by, without the data weight.
        norm: Gradient norm when it was last measured; NaN when it never was.
        share: Its part of the summed norms of all weighted gradients, from 0 to 1; NaN while its
            norm is.
    """

    loss: Tensor
    weight: Tensor
    norm: Tensor
    share: Tensor


@dataclass(frozen=True)
class CallRecord:
    """What all tasks did in one training call.

    A call keeps vectors; the scalars of each task are made when somebody asks for them, because
    that takes longer with dozens of tasks than the rule itself.

    Attributes:
        losses: by task; may hold more tasks than `weights`.
        weights: by task, of those that counted.
        norms: in the order of `weights`, shape ``(K,)``.
        shares: in the order of `weights`, shape ``(K,)``.
    """

    losses: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    norms: Tensor
    shares: Tensor

    def by_task(self) -> dict[str, TaskRecord]:
        """A record per task that counted; nothing is synchronised."""
        columns = self.norms.unbind(), self.shares.unbind()
        return {
            task: TaskRecord(self.losses[task], weight, norm, share)
            for (task, weight), norm, share in zip(self.weights.items(), *columns, strict=True)
        }


def numbers(rows: Mapping[str, TaskRecord]) -> dict[str, dict[str, float]]:
    """The records as plain numbers, in one synchronisation."""
    if not rows:
        return {}
    names = [field.name for field in fields(TaskRecord)]
    home = next(iter(rows.values())).loss.device
    table = torch.stack(
        [torch.stack([getattr(r, n).to(home) for n in names]) for r in rows.values()]
    )
    return {
        task: dict(zip(names, row, strict=True))
        for task, row in zip(rows, table.tolist(), strict=True)
    }


def record_of(
    state: RunningNorms,
    batch: LiveLosses,
    weights: Mapping[str, Tensor],
    data_weights: Mapping[str, Tensor | float],
) -> CallRecord:
    """What the tasks of a call did; nothing is synchronised."""
    index = torch.tensor(state.positions(weights), device=state.norm.device)
    norms = state.norm[index]
    each = [
        weight if task not in data_weights else _times(weight, data_weights[task])
        for task, weight in weights.items()
    ]
    pull = torch.stack(each).to(norms) * (norms * state.offsets().exp()[index])
    return CallRecord(batch.values, weights, norms, pull / pull.nansum())


def weighted_sum(
    losses: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    data_weights: Mapping[str, Tensor | float],
) -> Tensor:
    """The sum of :func:`scaled` losses, by task; the same digits in one product or in many.

    Example:
        >>> losses = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> weights = {"a": torch.tensor(0.5), "b": torch.tensor(1.0)}
        >>> weighted_sum(losses, weights, {}), weighted_sum(losses, weights, {"b": 2.0})
        (tensor(4.), tensor(7.))
    """
    dtypes = {loss.dtype for loss in losses.values()}
    devices = {tensor.device for task in losses for tensor in (losses[task], weights[task])}
    if len(dtypes) == len(devices) == 1 and not data_weights:
        # What is worth it for dozens of tasks; across devices it would wait for a copy.
        factors = torch.stack([weights[task] for task in losses])
        return scaled(torch.stack(list(losses.values())), factors, None).sum()
    terms = [scaled(loss, weights[t], data_weights.get(t)) for t, loss in losses.items()]
    return torch.stack([term.to(terms[0].device) for term in terms]).sum()


def scaled(value: Tensor, weight: Tensor, data_weight: Tensor | float | None) -> Tensor:
    """``weight * data_weight * value`` with no gradient to the weights, at least float32."""
    if data_weight is not None:
        weight = _times(weight, data_weight)
    dtype = torch.promote_types(value.dtype, torch.float32)
    # A weight on the CPU is not copied to the device, which would be waited for: a product takes a
    # scalar from anywhere.
    return weight.to(dtype) * value.to(dtype)


def _times(weight: Tensor, data_weight: Tensor | float) -> Tensor:
    return weight * torch.as_tensor(data_weight).detach().to(weight).reshape(())
