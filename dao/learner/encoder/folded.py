"""LoRA as one matrix product: the update is folded into the frozen weight at every forward."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["FoldedLinear", "folded_linear"]


class FoldedLinear(Linear):  # type: ignore[misc]
    """peft's LoRA linear layer, computed as ``x (W + s B A)^T + b`` instead of in three products.

    Parameters, names and files are peft's own. The fold is exact in real arithmetic (rounding
    apart) and is taken where the update is linear in `x`: no LoRA dropout, and A and B plain linear
    layers without hooks. In all other cases the products stay apart, for example under a dendrite
    on B.

    The frozen weight may be in fp32 under activations in bf16. The update is then added in fp32 and
    the sum is rounded once, so that a small update survives the rounding of the weight.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """(..., in) to (..., out), in the type of `x`."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1 or kwargs:
            apart: Tensor = super().forward(x, *args, **kwargs)
            return apart
        name = self.active_adapters[0]
        down, up = self.lora_A[name], self.lora_B[name]
        weight: Tensor = self.base_layer.weight
        bias: Tensor | None = self.base_layer.bias
        if _linear(down) and _linear(up) and isinstance(self.lora_dropout[name], nn.Identity):
            scale = self.scaling[name]
            return folded_linear(x, weight, bias, down.weight, up.weight, scale)
        # Dendrites and dropout are in fp32; autocast lends them the type of `x`.
        low = x.dtype != down.weight.dtype
        with torch.autocast(x.device.type, dtype=x.dtype, enabled=low):
            update: Tensor = up(down(self.lora_dropout[name](x)))
        plain = F.linear(x, weight.to(x.dtype), _as(x, bias))
        return plain + (update * float(self.scaling[name])).to(x.dtype)


def _linear(module: nn.Module) -> bool:
    watched = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return type(module) is nn.Linear and module.bias is None and not watched


def folded_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """``x (weight + scale * up down)^T + bias``, differentiable in `x`, `down` and `up`.

    Args:
        x: (..., in), fp32 or bf16.
        weight: (out, in), frozen.
        bias: (out,), frozen.
        down: (rank, in), LoRA's A.
        up: (out, rank), LoRA's B.
        scale: alpha / rank.

    Returns:
        (..., out) in the type of `x`; gradients come in the type of their tensor.
    """
    folded: Tensor = _Folded.apply(x, weight, bias, down, up, scale)  # type: ignore[no-untyped-call]
    return folded


class _Folded(torch.autograd.Function):
    # Autograd would compute the gradient of the whole weight, (out, in), which is not needed. The
    # backward pass folds the weight again: that is cheap, and saves keeping it for every layer.

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        return F.linear(x, _fold(x, weight, down, up, scale), _as(x, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, down, up = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ _fold(x, weight, down, up, ctx.scale)
        rows, columns = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        narrow = rows @ (up * ctx.scale).to(grad.dtype)
        grad_down = (narrow.t() @ columns).to(down.dtype)
        grad_up = (rows.t() @ (columns @ down.t().to(x.dtype))).to(up.dtype) * ctx.scale
        return grad_x, None, None, grad_down, grad_up, None


def _fold(x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    return torch.addmm(weight.to(up.dtype), up, down, alpha=scale).to(x.dtype)


def _as(x: Tensor, bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
