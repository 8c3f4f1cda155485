"""Which parameters of a run have a learning rate or a weight decay of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import nn

from dao.learner.dendrites.dendrites import Dendrites
from dao.learner.settings.config import Config

__all__ = ["Apart", "in_order", "parameter_groups", "trained_apart"]


class Apart(NamedTuple):
    """Parameters that are trained otherwise than the rest."""

    parameters: Sequence[nn.Parameter]
    times: float
    """The number by which the rate of the run is multiplied for them."""
    weight_decay: float | None = None
    """Their own; None: that of the run."""


def trained_apart(
    cfg: Config, dendrites: Dendrites | None, router: nn.Module | None
) -> list[Apart]:
    """The parameters that are trained otherwise than the rest, and how.

    These are the router, and the dendrites now in the model where they have a rate or a weight
    decay of their own. Elsewhere the dendrites stay in the group of all other parameters: the norm
    of the gradient is then summed in the order of the model, and checkpoints have one group.
    """
    found: list[Apart] = []
    own = cfg.dendrites
    if dendrites is not None and (own.lr != 1.0 or own.weight_decay is not None):
        found.append(Apart(dendrites.dendrite_parameters(), own.lr, own.weight_decay))
    if router is not None:
        found.append(Apart([*router.parameters()], cfg.experts.router_lr / cfg.train.lr))
    return found


def parameter_groups(
    parameters: Sequence[nn.Parameter], apart: Iterable[Apart]
) -> list[dict[str, Any]]:
    """Groups for an optimizer; all parameters that are not trained apart are in the first.

    Args:
        parameters: all that train, in the order of the model.
        apart: parameters for a group each; those that are not among `parameters` are passed over.

    Returns:
        For each group with parameters: `params`, and `times`, the multiple of the run's rate; and
        `weight_decay` where it is not that of the run.

    Example:
        >>> import torch
        >>> main, own = (nn.Parameter(torch.zeros(n)) for n in (2, 3))
        >>> first, second = parameter_groups([own, main], [Apart([own], 10.0, 0.0)])
        >>> len(first["params"][0]), first["times"], "weight_decay" in first
        (2, 1.0, False)
        >>> len(second["params"][0]), second["times"], second["weight_decay"]
        (3, 10.0, 0.0)
    """
    sets = [({id(p) for p in part.parameters}, part) for part in apart]
    taken = set[int]().union(*(own for own, _ in sets))
    groups = [{"params": [p for p in parameters if id(p) not in taken], "times": 1.0}]
    for own, part in sets:
        decay = {} if part.weight_decay is None else {"weight_decay": part.weight_decay}
        chosen = [p for p in parameters if id(p) in own]
        groups.append({"params": chosen, "times": part.times, **decay})
    return [group for group in groups if group["params"]]


def in_order(
    groups: Iterable[dict[str, Any]], named: Iterable[tuple[str, nn.Parameter]]
) -> dict[str, nn.Parameter]:
    """The parameters by name, in the order in which an optimizer with these groups counts them."""
    names = {id(parameter): name for name, parameter in named}
    return {names[id(p)]: p for group in groups for p in group["params"]}
