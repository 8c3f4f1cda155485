"""Gradient norms of several losses on one graph, over all ranks.

Nothing here touches ``.grad``, accumulates into a parameter, or draws a random number; the graph
stays usable for the backward that follows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dao.distributed import (
    mean_adapter_norms,
    mean_frobenius_norms,
    mean_gradient_norm,
    sum_over_ranks,
)
from dao.errors import UserError
from dao.half import half_gradients, holds_half
from dao.importance import task_gradients

__all__ = ["LiveLosses", "depends", "parameter_norms", "representation_norms", "survey"]

_FSDP1 = "torch.distributed.fsdp._runtime_utils"


class LiveLosses(NamedTuple):
    """The losses of a call that count.

    Attributes:
        live: The losses of this rank.
        ranks: For each task that some rank has, how many have it; the same on every rank.
        values: Their mean losses over those ranks, float64 scalars.
    """

    live: dict[str, Tensor]
    ranks: dict[str, int]
    values: dict[str, Tensor]

    def only(self, tasks: Sequence[str]) -> "LiveLosses":
        """The part that concerns some tasks, in the order of the whole."""
        wanted = set(tasks)
        live = {task: loss for task, loss in self.live.items() if task in wanted}
        ranks = {task: count for task, count in self.ranks.items() if task in wanted}
        return LiveLosses(live, ranks, self.values)


def survey(
    losses: Mapping[str, Tensor], tasks: Sequence[str], *, trusted: bool = False
) -> tuple[LiveLosses, list[str]]:
    """Sorts out which losses count: they require grad and are finite.

    Args:
        losses: Scalars of this rank; a constant one counts as absent.
        tasks: All names, the same on every rank.
        trusted: Take all as finite without looking, and so without waiting for the device; for a
            single rank.

    Raises:
        UserError: A loss is on the meta device.

    Returns:
        The losses that count, and the tasks that were NaN or infinite on some rank.

    Example:
        >>> import torch
        >>> loss = torch.ones((), requires_grad=True)
        >>> batch, broken = survey({"a": 2 * loss, "b": loss / 0}, ["a", "b"])
        >>> batch.values, broken
        ({'a': tensor(2., dtype=torch.float64)}, ['b'])
    """
    losses = {task: loss for task, loss in losses.items() if loss.requires_grad}
    if trusted:
        known = {task: loss.detach().double() for task, loss in losses.items()}
        return LiveLosses(losses, dict.fromkeys(losses, 1), known), []
    if meta := [task for task, loss in losses.items() if loss.is_meta]:
        raise UserError(
            f"The loss `{meta[0]}` should be a real, dense number. Found meta, a device without "
            "numbers. Move the model to a device first."
        )
    numbers = [loss.detach() for loss in losses.values()]
    # One synchronisation for all losses: 0 * NaN is NaN, so a NaN has to stay out of the graph.
    stacked = [number.to(numbers[0].device) for number in numbers]
    values = torch.stack(stacked).double().tolist() if numbers else []
    found = dict(zip(losses, values, strict=True))
    finite = {task: value for task, value in found.items() if math.isfinite(value)}
    rows = [[t in finite, finite.get(t, 0.0), t in found and t not in finite] for t in tasks]
    table = sum_over_ranks(torch.tensor(rows, dtype=torch.float64))
    having, _, odd = table.T.tolist()
    average = (table[:, 1] / table[:, 0]).unbind()  # of tasks that no rank has: not looked at
    counts = {task: int(n) for task, n in zip(tasks, having, strict=True) if n}
    means = {t: mean for t, mean in zip(tasks, average, strict=True) if t in counts}
    broken = [task for task, n in zip(tasks, odd, strict=True) if n]
    return LiveLosses({task: losses[task] for task in finite}, counts, means), broken


def parameter_norms(
    losses: Mapping[str, Tensor], ranks: Mapping[str, int], parameters: list[Tensor]
) -> dict[str, Tensor]:
    """Norm over the parameters of each task's gradient, averaged over ranks.

    Args:
        losses: The losses of this rank.
        ranks: For each task that some rank has, how many have it; the same on every rank.
        parameters: As :meth:`dao.shared.Shared.trainable` gives them.

    Returns:
        A float64 scalar per task of `ranks`.

    Raises:
        RuntimeError: No loss reaches any of the parameters.

    Example:
        >>> import torch
        >>> p = torch.ones(1, requires_grad=True)
        >>> parameter_norms({"a": 3 * p.sum()}, {"a": 1}, [p])
        {'a': tensor(3., dtype=torch.float64)}
    """
    norms: dict[str, Tensor] = {}
    reached = not losses
    gradients_of = half_gradients if holds_half(losses.values()) else task_gradients
    for task, count in ranks.items():
        gradients: list[Tensor | None] = [None] * len(parameters)
        if task in losses:
            gradients = gradients_of(losses[task], parameters)
            reached = reached or any(g is not None for g in gradients)
        norms[task] = mean_gradient_norm(gradients, parameters, count)
    if not reached:
        raise RuntimeError(
            "The losses should depend on `params`. Found no gradient for any of them. Either these "
            "are not the parameters the losses came from, or reentrant gradient checkpointing "
            "hides them: checkpoint with `use_reentrant=False`, or use `source='rep'`. Parameters "
            "that were replaced or copied since are found through `encoder.parameters` (no "
            "brackets); a lambda still returns those of the original."
        )
    return norms


def depends(loss: Tensor | None, inputs: Sequence[Tensor]) -> bool:
    """Whether a loss depends on any of the inputs; True for a loss that this rank lacks.

    A head that starts at zero passes a gradient of zero on, and so depends all the same.

    Example:
        >>> import torch
        >>> a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> depends((0 * a).sum(), [a]), depends((0 * a).sum(), [b])
        (True, False)
    """
    if loss is None:
        return True
    return any(gradient is not None for gradient in task_gradients(loss, inputs))


def representation_norms(
    losses: Mapping[str, Tensor],
    ranks: Mapping[str, int],
    z: Tensor | None,
    kind: Literal["adapter", "frobenius"],
) -> dict[str, Tensor]:
    """Norm at the representation of each task's gradient, as if the ranks' batches were one.

    Args:
        losses: The losses of this rank.
        ranks: For each task that some rank has, how many have it; the same on every rank.
        z: The tapped representation, shape ``(..., H)``.
        kind: Which norm.

    Returns:
        A float64 scalar per task of `ranks`.

    Raises:
        RuntimeError: Nothing was tapped, or the losses do not come from it.
        UserError: The representation cannot be measured.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1.0]], requires_grad=True)
        >>> representation_norms({"a": (3 * z).sum()}, {"a": 1}, z, "frobenius")
        {'a': tensor(4.2426, dtype=torch.float64)}
    """
    if z is None:
        raise RuntimeError(
            "`source='rep'` should see the representation of every training batch. Found none. "
            "Call `z = balance.tap(z)` inside the model's forward, in train mode."
        )
    _check_representation(z)
    gradients_of = half_gradients if holds_half(losses.values()) else task_gradients
    found = {t: gradients_of(loss, [z])[0] for t, loss in losses.items()}
    if losses and all(g is None for g in found.values()):
        raise RuntimeError(
            "The losses should depend on the tapped representation. Found no gradient. Tap it "
            "inside forward, and use what `tap` returns: a copied or cast output is not in the"
            " graph."
        )
    gradients = [torch.zeros_like(z) if (g := found.get(t)) is None else g for t in ranks]
    counts = list(ranks.values())
    if kind == "frobenius":
        norms = mean_frobenius_norms(gradients, counts)
    else:
        norms = mean_adapter_norms(gradients, z, counts)
    return dict(zip(ranks, norms, strict=True))


def _check_representation(z: Tensor) -> None:
    if z.is_complex() or z.is_nested or z.layout != torch.strided or z.ndim == 0:
        kind = "nested" if z.is_nested else f"{tuple(z.shape)} {z.dtype} {z.layout}"
        raise UserError(
            "The tapped representation should be real and dense, shape (..., H). Found "
            f"{kind}. Tap a padded or pooled one, or use `source='params'`."
        )
    hooks = (getattr(hook, "func", hook) for hook in (z._backward_hooks or {}).values())
    if any(getattr(hook, "__module__", "") == _FSDP1 for hook in hooks):
        raise UserError(
            "The tapped representation should not come out of FullyShardedDataParallel, which frees"
            " its parameters after one backward. Shard with `torch.distributed.fsdp.fully_shard`."
        )
