"""Which parameters of a run have a learning rate of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from dao.learner.dendrites.dendrites import Dendrites
from dao.learner.settings.config import Config

__all__ = ["in_order", "own_rates", "parameter_groups"]

OwnRate = tuple[Sequence[nn.Parameter], float]
"""Parameters, and the number by which the rate of the run is multiplied for them."""


def own_rates(cfg: Config, dendrites: Dendrites | None, router: nn.Module | None) -> list[OwnRate]:
    """The parameters with a rate of their own, and the multiple of the run's rate for each set.

    These are the router, and the dendrites now in the model where `dendrites.lr` is not 1. At 1 the
    dendrites stay in the group of all other parameters: the norm of the gradient is then summed in
    the order of the model, and checkpoints have one group.
    """
    found: list[OwnRate] = []
    if dendrites is not None and cfg.dendrites.lr != 1.0:
        found.append((dendrites.dendrite_parameters(), cfg.dendrites.lr))
    if router is not None:
        found.append(([*router.parameters()], cfg.experts.router_lr / cfg.train.lr))
    return found


def parameter_groups(
    parameters: Sequence[nn.Parameter], apart: Iterable[OwnRate]
) -> list[dict[str, Any]]:
    """Groups for an optimizer; all parameters without a rate of their own are in the first.

    Args:
        parameters: all that train, in the order of the model.
        apart: parameters for a group each; those that are not among `parameters` are passed over.

    Returns:
        For each group with parameters: `params`, and `times`, the multiple of the run's rate.

    Example:
        >>> import torch
        >>> main, own = (nn.Parameter(torch.zeros(n)) for n in (2, 3))
        >>> groups = parameter_groups([own, main], [([own], 10.0)])
        >>> [(len(group["params"][0]), group["times"]) for group in groups]
        [(2, 1.0), (3, 10.0)]
    """
    sets = [({id(p) for p in own}, times) for own, times in apart]
    taken = set[int]().union(*(own for own, _ in sets))
    groups = [{"params": [p for p in parameters if id(p) not in taken], "times": 1.0}]
    groups += [{"params": [p for p in parameters if id(p) in own], "times": t} for own, t in sets]
    return [group for group in groups if group["params"]]


def in_order(
    groups: Iterable[dict[str, Any]], named: Iterable[tuple[str, nn.Parameter]]
) -> dict[str, nn.Parameter]:
    """The parameters by name, in the order in which an optimizer with these groups counts them."""
    names = {id(parameter): name for name, parameter in named}
    return {names[id(p)]: p for group in groups for p in group["params"]}
