"""Dynamic int8 on the CPU: 8-bit weights, activations rounded as they come.

torch.ao's quantize_dynamic is deprecated and so are the tensor types it makes; torchao without a
compiler was slower than fp32 here. The oneDNN product that torch's own compiler uses takes plain
integer tensors and needs neither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from dao.errors import UserError
from dao.learner.dendrites.dendritic import put_module
from dao.learner.inference.backends.merging import LinearWithDendrites, LinearWithLora

__all__ = ["Int8Linear", "check_int8", "quantize_linear"]

ZERO = 128  # the unsigned code that stands for 0


class Int8Linear(nn.Module):
    """y = x W^T + b with W in int8 (a scale per output) and x in uint8 (a scale per token).

    A scale for all of x at once, as in the usual schemes, is a sixth faster here, but loses twice
    as much and makes the output of a text depend on what else is in its batch.

    Args:
        weight: fp32, (outputs, inputs).
        bias: fp32, (outputs,), or None.
    """

    weight: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Processors without VNNI add products in 16 bits, which weights of 8 bits would overflow.
        limit = 127 if torch.cpu._is_vnni_supported() else 63
        scale = weight.abs().amax(1).clamp(min=1e-12) / limit
        # Packing reads the codes row by row, whatever their strides say.
        codes = (weight / scale.unsqueeze(1)).round().to(torch.int8).contiguous()
        self.register_buffer("weight", torch.ops.onednn.qlinear_prepack(codes, None))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.long))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., F) to outputs (..., C), both fp32."""
        step = x.abs().amax(-1, keepdim=True).clamp_(min=1e-12) / 127
        # The product wants unsigned codes. Adding a half and cutting off rounds, in one pass less.
        codes = torch.addcmul(torch.tensor(ZERO + 0.5), x, 1 / step).to(torch.uint8)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, ZERO, self.weight, self.scale, self.zero, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        out *= step
        return out if self.bias is None else out.add_(self.bias)


def check_int8(device: torch.device) -> None:
    """Refuse where the product does not exist.

    Raises:
        UserError: the device is not a CPU, or this torch lacks oneDNN.
    """
    if device.type != "cpu":
        raise UserError(
            f"The engine int8 should run on the CPU. Found device {device.type}. Add --device cpu."
        )
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise UserError(
            "The engine int8 should have a torch built with oneDNN. Found one without. "
            "Use --engine onnx-int8."
        )


def quantize_linear(encoder: nn.Module) -> nn.Module:
    """Replace every linear layer of a merged encoder, in place; LoRA and dendrites stay fp32."""
    narrow = {
        f"{name}.{part}"
        for name, module in encoder.named_modules()
        if isinstance(module, LinearWithDendrites | LinearWithLora)
        for part in ("lora_a", "lora_b", "dendrites")
    }
    for name, module in list(encoder.named_modules()):
        if isinstance(module, nn.Linear | Conv1D) and not name.startswith(tuple(narrow)):
            weight = module.weight.T if isinstance(module, Conv1D) else module.weight
            bias = None if module.bias is None else module.bias.detach()
            put_module(encoder, name, Int8Linear(weight.detach(), bias))
    return encoder
