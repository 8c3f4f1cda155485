"""What is read of, and frozen in, the modules that perforatedai puts around layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dao.learner.dendrites.perforated import DendriteError

__all__ = ["check_unchanged", "dendrite_parameters", "freeze_spare_parts", "twin_tensors"]

OF_DENDRITES = re.compile(r"\.(dendrite_module|dendrites_to_top)\.")


def freeze_spare_parts(modules: Iterable[Any], *, sham: bool) -> None:
    """Freeze, in place, the parameters that never train; with `sham`, those of all dendrites."""
    for module in modules:
        inner = module.dendrite_module
        inner.parent_module.requires_grad_(False)  # a spare copy that is only ever copied
        inner.dendrites_to_candidates.requires_grad_(False)
        inner.dendrites_to_dendrites[:1].requires_grad_(False)
        if sham:
            for part in (inner.layers, module.dendrites_to_top, inner.dendrites_to_dendrites):
                part.requires_grad_(False)


def dendrite_parameters(modules: Iterable[Any]) -> list[nn.Parameter]:
    """The trainable parameters of the dendrites in these modules, gates included."""
    parameters: list[nn.Parameter] = []
    for module in modules:
        inner = module.dendrite_module
        parameters += [*inner.layers.parameters(), *module.dendrites_to_top[-1:]]
        parameters += inner.dendrites_to_dendrites[1:]
    return [p for p in parameters if p.requires_grad]


def twin_tensors(model: nn.Module, modules: Mapping[str, Any], sets: int) -> dict[str, Tensor]:
    """Copies on the CPU of all trainable weights, by the names that `dendritic.load` reads.

    Args:
        model: that perforatedai has wrapped.
        modules: path of the layer -> perforatedai's module around it.
        sets: dendrites of each module to copy; the weights beside dendrites are always copied.
    """
    tensors: dict[str, Tensor] = {
        name.replace(".main_module.", "."): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not OF_DENDRITES.search(name)
    }
    for name, module in modules.items() if sets else ():
        inner = module.dendrite_module
        tensors[f"{name}.top"] = top = module.dendrites_to_top[-1]
        for key, parameter in inner.layers.named_parameters():
            tensors[f"{name}.layers.{key}"] = parameter
        tensors[f"{name}.skip.0"] = top[:0]
        for i in range(1, sets):
            tensors[f"{name}.skip.{i}"] = inner.dendrites_to_dendrites[i]
    return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}


def check_unchanged(modules: Mapping[str, Any], axes: Mapping[str, int], seed: int) -> None:
    """See that every wrapped layer computes, to the bit, what it would without dendrites.

    Args:
        modules: path of the layer -> perforatedai's module around it.
        axes: path of the layer -> number of axes of its output.
        seed: of the inputs that are tried.

    Raises:
        DendriteError: one does not.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in modules.items():
        weight = module.main_module.weight
        sizes = [*[4] * (axes[name] - 1), module.main_module.in_features]
        x = torch.randn(sizes, generator=generator).to(weight.device)
        if weight.is_floating_point():  # not where the layer is quantised
            x = x.to(weight.dtype)
        with torch.no_grad():
            if not torch.equal(module(x), module.main_module(x)):
                raise DendriteError(
                    f"Untrained dendrites should change nothing. Found that the output of "
                    f"{name!r} differs from that of the layer alone."
                )
