"""LoRA folded into the frozen weights: the trained model without peft, for inference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.dendrites.dendritic import DendriticModule, put_module
from dao.learner.model.model import MultiTaskModel

__all__ = ["LinearWithDendrites", "LinearWithLora", "Merged", "check_mergeable", "merge"]

ADAPTER = "default"


@dataclass(frozen=True)
class Merged:
    """How many of the `layers` that had LoRA were merged, and in what way.

    `whole` went into the frozen weights completely, `beside` of them with low-rank dendrites that
    see what the layer sees; `linear` left dendrites of lora_B beside them, and the others stay as
    they were, because dendrites of lora_A precede lora_B.
    """

    layers: int
    whole: int
    linear: int
    beside: int = 0

    def __str__(self) -> str:
        left = self.layers - self.whole - self.linear
        beside = f", {self.linear} but for the dendrites on lora_B" if self.linear else ""
        apart = f", {left} not at all because of dendrites on lora_A" if left else ""
        whole = f", {self.beside} of them beside low-rank dendrites" if self.beside else ""
        return f"LoRA merged into {self.whole} of {self.layers} layers{whole}{beside}{apart}"


class LinearWithDendrites(nn.Module):
    """A merged layer W + s BA, with dendrites of B that still see A x: their signals are added."""

    def __init__(
        self, base: nn.Module, lora_a: nn.Module, lora_b: DendriticModule, scaling: float
    ) -> None:
        super().__init__()
        self.base, self.lora_a, self.dendrites = base, lora_a, lora_b
        lora_b.top.data.mul_(scaling)
        lora_b.main = nn.Identity()  # the product is in `base` now

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., F) to outputs (..., C)."""
        return self.dendrites.add_signals(self.base(x), self.lora_a(x))


class LinearWithLora(nn.Module):
    """W x + s B(A x), for an A that is not linear."""

    def __init__(
        self, base: nn.Module, lora_a: nn.Module, lora_b: nn.Module, scaling: float
    ) -> None:
        super().__init__()
        self.base, self.lora_a, self.lora_b, self.scaling = base, lora_a, lora_b, scaling

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., F) to outputs (..., C)."""
        out: Tensor = self.base(x) + self.lora_b(self.lora_a(x)) * self.scaling
        return out


def check_mergeable(model: MultiTaskModel) -> None:
    """Refuse quantised weights and experts.

    Raises:
        UserError: the frozen weights are quantised; rounding the sum again would lose most of
            the trained part. Or there are experts, of which each text has its own sum.
    """
    if model.experts is not None:
        raise UserError(
            "LoRA should be one adapter for all texts, to be merged. Found experts that a router "
            "mixes text by text. Use --engine eager."
        )
    if getattr(model.base, "quantization_method", None) is not None:
        raise UserError(
            "LoRA should be merged into unquantised weights. Found a run with `encoder.quantize` "
            "nf4 or int8. Use --engine eager, which runs it as it was trained."
        )


@torch.no_grad()
def merge(model: MultiTaskModel) -> Merged:
    """Merge in fp32 and in place; `model.encoder` is the plain encoder afterwards.

    Raises:
        UserError: the frozen weights are quantised.
    """
    check_mergeable(model)
    base = model.base.float()
    layers = {name: m for name, m in base.named_modules() if isinstance(m, LoraLayer)}
    replaced = {name: _plain(layer) for name, layer in layers.items()}
    for name, module in replaced.items():
        put_module(base, name, module)
    model.encoder, model.compute = base.eval(), torch.float32
    kinds = [type(module) for module in replaced.values()]
    linear = kinds.count(LinearWithDendrites)
    whole = len(kinds) - linear - kinds.count(LinearWithLora)
    # A layer that has dendrites itself is `main` of the module in its place.
    beside = sum(_has_dendrites(base.get_submodule(name.rpartition(".")[0])) for name in layers)
    return Merged(len(kinds), whole, linear, beside)


def _plain(layer: LoraLayer) -> nn.Module:
    lora_a, lora_b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    scaling = layer.scaling[ADAPTER]
    if _has_dendrites(lora_a):
        return LinearWithLora(layer.get_base_layer(), lora_a, lora_b, scaling)
    # A dendritic module shows the weight of its main layer, so this merges the linear part.
    layer.merge(adapter_names=[ADAPTER])
    base: nn.Module = layer.get_base_layer()
    if _has_dendrites(lora_b):
        return LinearWithDendrites(base, lora_a, lora_b, scaling)
    return base


def _has_dendrites(module: nn.Module) -> bool:
    return isinstance(module, DendriticModule) and len(module.layers) > 0
