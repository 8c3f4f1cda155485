"""Which tensors of a model with experts moved in a stage, by digests of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.model.experts import expert_tensors
from dao.learner.model.model import MultiTaskModel

__all__ = [
    "HEADS",
    "ROUTER",
    "Digests",
    "check_all_moved",
    "check_frozen",
    "count_moved",
    "part_digests",
    "part_sizes",
]

ROUTER, HEADS = "router", "heads"
Digests = Mapping[str, Mapping[str, str]]
"""Part of the model (an expert, the router, the heads) -> name of a tensor -> its SHA-256."""
Moved = Mapping[str, Mapping[str, int]]
"""Part of the model -> how many `tensors` moved, `of` how many."""


def part_digests(model: MultiTaskModel) -> Digests:
    """Digests of everything that any stage trains."""
    return {
        part: {name: _digest(tensor) for name, tensor in tensors.items()}
        for part, tensors in _parts(model).items()
    }


def part_sizes(model: MultiTaskModel) -> dict[str, int]:
    """Parameters of each expert, of the router and of the heads."""
    return {
        part: sum(tensor.numel() for tensor in tensors.values())
        for part, tensors in _parts(model).items()
    }


def count_moved(before: Digests, after: Digests) -> dict[str, dict[str, int]]:
    """How many tensors of each part have another content.

    Example:
        >>> count_moved({"news": {"a": "0", "b": "1"}}, {"news": {"a": "0", "b": "2"}})
        {'news': {'tensors': 1, 'of': 2}}
    """
    return {
        part: {"tensors": sum(before[part][n] != found[n] for n in found), "of": len(found)}
        for part, found in after.items()
    }


def check_frozen(moved: Moved, training: Collection[str], stage: str) -> None:
    """See that nothing moved but what trains.

    Raises:
        RuntimeError: something did, which no setting explains.
    """
    if odd := [part for part in moved if part not in training and moved[part]["tensors"]]:
        raise RuntimeError(f"{odd} moved in the stage {stage}, in which they are frozen")


def check_all_moved(moved: Moved, experts: Sequence[str]) -> None:
    """See that every tensor of these experts moved.

    Raises:
        UserError: one did not.
    """
    for name in experts:
        tensors, of = moved[name]["tensors"], moved[name]["of"]
        if tensors < of:
            raise UserError(
                f"Every tensor of every expert should move in stage 3. Found {tensors} of {of} "
                f"moved of the expert {name}. Raise train.lr, or train.epochs."
            )


def _parts(model: MultiTaskModel) -> dict[str, Mapping[str, Tensor]]:
    assert model.experts is not None
    parts = {name: expert_tensors(model.encoder, name) for name in model.experts.names}
    return {**parts, ROUTER: model.experts.router.state_dict(), HEADS: model.heads.state_dict()}


def _digest(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(content.numpy().tobytes()).hexdigest()
