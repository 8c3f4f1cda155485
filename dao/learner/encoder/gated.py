"""Several LoRA adapters of a layer in one product, each row with its own weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional as F

from dao.errors import UserError
from dao.learner.encoder.folded import folded_linear

__all__ = ["Gate", "GatedLinear"]


class Gate:
    """Which experts act in a forward pass, and with what weights; all layers of a model share it.

    The gate keeps its setting after the forward pass, because gradient checkpointing runs layers
    again in the backward pass.

    Args:
        names: of the experts, which are names of adapters, in order.
        rank: of every adapter.
        scale: alpha / rank.
        folded: whether an expert that acts alone may be folded into the frozen weights.
    """

    def __init__(self, names: Sequence[str], *, rank: int, scale: float, folded: bool) -> None:
        self.names, self.rank, self.scale, self.folded = tuple(names), rank, scale, folded
        self.alone: str | None = None
        self.factors: Tensor | None = None

    def close(self) -> None:
        """Let no expert act."""
        self.alone = self.factors = None

    def open(self, weights: Tensor) -> None:
        """Let all experts act with `weights` (batch, experts)."""
        self.alone = None
        self.factors = (weights * self.scale).repeat_interleave(self.rank, dim=1)

    def let_alone(self, name: str) -> None:
        """Let this adapter alone act on every row."""
        self.alone, self.factors = name, None


class GatedLinear(Linear):  # type: ignore[misc]
    """peft's LoRA linear layer with several adapters, mixed by a `gate` that is given afterwards.

    ``W x + b + B (g * A x)`` with A (experts * rank, in) and B (out, experts * rank) of all experts
    one below and one beside the other, and g the row's weights times alpha / rank: the sum that
    peft takes adapter by adapter. Parameters, names and files are peft's own, over plain and over
    quantised weights. LoRA dropout drops the same inputs for all experts.

    The gate alone decides which adapters act; peft's list of active adapters is ignored, because
    `PeftModel.set_adapter` would also change which of them train (huggingface/peft#2436).
    """

    gate: Gate

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: ANN401
        """(batch, ..., in) to (batch, ..., out), in the type of `x`."""
        gate = self.gate
        if gate.alone is not None:
            return self._alone(x, gate.alone)
        if gate.factors is None:
            return self._plain(x)
        rows = len(gate.factors)
        if x.dim() < 2 or len(x) != rows:
            raise UserError(
                f"Experts should be on layers that see a batch row by row. Found an input of shape "
                f"{tuple(x.shape)} for {rows} rows. Choose others with encoder.lora.targets."
            )
        factors = gate.factors.view(rows, *[1] * (x.dim() - 2), -1)
        return self._updated(x, gate.names, factors)

    def _alone(self, x: Tensor, name: str) -> Tensor:
        base, drop = self.base_layer, self.lora_dropout[name]
        if self.gate.folded and type(base) is nn.Linear and isinstance(drop, nn.Identity):
            down, up = self.lora_A[name].weight, self.lora_B[name].weight
            return folded_linear(x, base.weight, base.bias, down, up, self.scaling[name])
        return self._updated(x, (name,), float(self.scaling[name]))

    def _updated(self, x: Tensor, names: Sequence[str], factors: Tensor | float) -> Tensor:
        plain = self._plain(x)
        down = torch.cat([self.lora_A[name].weight for name in names])
        up = torch.cat([self.lora_B[name].weight for name in names], dim=1)
        narrow = F.linear(self.lora_dropout[names[0]](x), down.to(x.dtype))
        narrow = (narrow * factors).to(x.dtype)
        out = torch.addmm(plain.flatten(0, -2), narrow.flatten(0, -2), up.t().to(x.dtype))
        return out.view(plain.shape)

    def _plain(self, x: Tensor) -> Tensor:
        base = self.base_layer
        if type(base) is not nn.Linear:  # quantised, or GPT-2's
            given: Tensor = base(x)
            return given
        bias = None if base.bias is None else base.bias.to(x.dtype)
        return F.linear(x, base.weight.to(x.dtype), bias)
