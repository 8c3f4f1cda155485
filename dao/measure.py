"""Gradient norms of several losses on one graph, over all ranks.

Nothing here touches ``.grad``, accumulates into a parameter, or draws a random number; the graph
stays usable for the backward that follows.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dao.distributed import (
    mean_adapter_norms,
    mean_frobenius_norms,
    mean_gradient_norm,
    sum_over_ranks,
)
from dao.errors import UserError
from dao.importance import task_gradients

__all__ = [
    "Batch",
    "Parameters",
    "depends",
    "parameter_norms",
    "representation_norms",
    "survey",
    "trainable",
]

Parameters = Iterable[Tensor] | Callable[[], Iterable[Tensor]]


class Batch(NamedTuple):
    """The losses that count.

    Attributes:
        live: The losses of this rank.
        ranks: For each task that some rank has, how many have it; the same on every rank.
        values: Their mean losses over those ranks, float64 scalars.
    """

    live: dict[str, Tensor]
    ranks: dict[str, int]
    values: dict[str, Tensor]

    def only(self, tasks: Sequence[str]) -> "Batch":
        """The part that concerns some tasks, in the order of the whole."""
        live = {task: loss for task, loss in self.live.items() if task in tasks}
        ranks = {task: count for task, count in self.ranks.items() if task in tasks}
        return Batch(live, ranks, self.values)


def survey(
    losses: Mapping[str, Tensor], tasks: Sequence[str], *, trusted: bool = False
) -> tuple[Batch, list[str]]:
    """Sorts out which losses count: they require grad and are finite.

    Args:
        losses: Scalars of this rank; a constant one counts as absent.
        tasks: All names, the same on every rank.
        trusted: Take all as finite without looking, and so without waiting for the device; for a
            single rank.

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
        return Batch(losses, dict.fromkeys(losses, 1), known), []
    numbers = [loss.detach().double() for loss in losses.values()]
    # One synchronisation for all losses: 0 * NaN is NaN, so a NaN has to stay out of the graph.
    values = torch.stack([n.to(numbers[0].device) for n in numbers]).tolist() if numbers else []
    found = dict(zip(losses, values, strict=True))
    finite = {task: value for task, value in found.items() if math.isfinite(value)}
    rows = [[t in finite, finite.get(t, 0.0), t in found and t not in finite] for t in tasks]
    table = sum_over_ranks(torch.tensor(rows, dtype=torch.float64))
    known = {task: row for task, row in zip(tasks, table, strict=True) if row[0]}
    counts = {task: int(row[0]) for task, row in known.items()}
    means = {task: row[1] / row[0] for task, row in known.items()}
    broken = [task for task, row in zip(tasks, table, strict=True) if row[2]]
    return Batch({task: losses[task] for task in finite}, counts, means), broken


def deferred(name: str, given: Parameters | None, needed: bool) -> Callable[[], Iterable[Tensor]]:
    """A function that returns the parameters now; refuses their absence where they are needed."""
    if given is None and needed:
        raise UserError(
            f"`{name}` should be given for this `source` or `calibrate_every`. Found None. "
            "Give what the tasks share, or use `source='rep'` without calibration."
        )
    if isinstance(given, nn.Module):
        raise UserError(
            f"`{name}` should be parameters or a function that returns them. Found the module "
            f"{type(given).__name__}. Give its `.parameters` (no brackets: they may change later)."
        )
    if isinstance(given, Tensor):
        given = [given]
    if callable(given):
        return given
    kept = list(given or [])
    return lambda: kept


def trainable(source: Parameters) -> list[Tensor]:
    """The parameters that can receive a gradient, each once.

    Args:
        source: Parameters, or a function that returns them.

    Raises:
        UserError: None requires grad.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 2)
        >>> _ = layer.bias.requires_grad_(False)
        >>> len(trainable(lambda: [*layer.parameters(), layer.weight]))
        1
    """
    given = list(source() if callable(source) else source)
    if odd := [p for p in given if not isinstance(p, Tensor)]:
        raise UserError(
            f"`params` should be parameters. Found {type(odd[0]).__name__}s. "
            "Give `.parameters`, not `.named_parameters` or `.state_dict()`."
        )
    found = list({id(p): p for p in given if p.requires_grad}.values())
    if not found:
        raise UserError(
            f"`params` should hold a tensor that requires grad. Found {len(given)}, none trainable."
            " Give the shared trainable parameters, e.g. those of the LoRA adapter."
        )
    return found


def parameter_norms(
    losses: Mapping[str, Tensor], ranks: Mapping[str, int], parameters: list[Tensor]
) -> dict[str, Tensor]:
    """Norm over the parameters of each task's gradient, averaged over ranks.

    Args:
        losses: The losses of this rank.
        ranks: For each task that some rank has, how many have it; the same on every rank.
        parameters: As :func:`trainable` gives them.

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
    for task, count in ranks.items():
        gradients: list[Tensor | None] = [None] * len(parameters)
        if task in losses:
            gradients = task_gradients(losses[task], parameters)
            reached = reached or any(g is not None for g in gradients)
        norms[task] = mean_gradient_norm(gradients, parameters, count)
    if not reached:
        raise RuntimeError(
            "The losses should depend on `params`. Found no gradient for any of them. Either these "
            "are not the parameters the losses came from, or reentrant gradient checkpointing "
            "hides them: checkpoint with `use_reentrant=False`, or use `source='rep'`."
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

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 1.0]], requires_grad=True)
        >>> representation_norms({"a": (3 * z).sum()}, {"a": 1}, z, "frobenius")
        {'a': tensor(4.2426, dtype=torch.float64)}
    """
    if z is None:
        raise RuntimeError(
            "`source='rep'` should see the representation of every training batch. Found none that "
            "requires grad. Call `z = balance.tap(z)` inside the model's forward, in train mode."
        )
    found = {t: task_gradients(loss, [z])[0] for t, loss in losses.items()}
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
