"""LoRA on an encoder, through peft: one adapter, or one for each expert."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dao.errors import UserError
from dao.learner.encoder.folded import FoldedLinear
from dao.learner.encoder.gated import Gate, GatedLinear
from dao.learner.encoder.layers import layer_list
from dao.learner.settings.encoder_section import Lora

__all__ = ["add_experts", "add_lora", "cast_frozen", "lora_config", "wrap"]

# Layers with adapters, by architecture: the projections of the attention. Architectures that are
# missing here use peft's own list, or every linear layer where peft has no list either.
LORA_TARGETS = {
    "bert": ("query", "key", "value"),
    "phi": ("q_proj", "k_proj", "v_proj", "dense"),
}
LINEAR = (nn.Linear, Conv1D)  # Conv1D is the name of GPT-2's linear layers


def lora_config(base: PreTrainedModel, cfg: Lora) -> LoraConfig:
    """The adapters that `cfg` describes, for this architecture, as peft's settings.

    Raises:
        UserError: no linear layer has one of the target names, or there are fewer layers than are
            to be adapted.
    """
    kind = base.config.model_type
    linear = [name for name, module in base.named_modules() if isinstance(module, LINEAR)]
    # Nothing here uses the pooler's output, so adapters in it would never be trained.
    poolers = [name for name in linear if "pooler" in name]
    names = {name.rpartition(".")[2] for name in linear if name not in poolers}
    targets = cfg.targets or LORA_TARGETS.get(kind) or PEFT_TARGETS.get(kind) or sorted(names)
    if not names & set(targets):
        raise UserError(
            f"`encoder.lora.targets` should name linear layers of {kind}. "
            f"Found {sorted(targets)}; the model has {sorted(names)}."
        )
    return LoraConfig(
        r=cfg.r,
        lora_alpha=cfg.alpha,
        lora_dropout=cfg.dropout,
        target_modules=list(targets),
        exclude_modules=[n for n in poolers if n.rpartition(".")[2] in targets] or None,
        **_last_layers(base, cfg.last_layers),
    )


def add_lora(base: PreTrainedModel, cfg: Lora) -> PeftModel:
    """Wrap `base` with trainable low-rank adapters; everything else stays frozen.

    Raises:
        UserError: as `lora_config`.
    """
    lora = lora_config(base, cfg)
    if cfg.folded and getattr(base, "quantization_method", None) is None:
        lora._register_custom_module({nn.Linear: FoldedLinear})
    return wrap(base, lora)


def add_experts(base: PreTrainedModel, cfg: Lora, gate: Gate) -> PeftModel:
    """Wrap `base` with a trainable adapter per expert of the `gate`, all of them active.

    Raises:
        UserError: as `lora_config`.
    """
    lora = lora_config(base, cfg)
    lora._register_custom_module(dict.fromkeys(LINEAR, GatedLinear))
    first, *others = gate.names
    encoder = wrap(base, lora, first)
    for name in others:
        encoder.add_adapter(name, replace(lora))
    encoder.base_model.set_adapter(list(gate.names))  # PeftModel's own takes one name
    for module in encoder.modules():
        if isinstance(module, GatedLinear):
            module.gate = gate
    return encoder


def wrap(base: PreTrainedModel, lora: LoraConfig, name: str = "default") -> PeftModel:
    """`get_peft_model` without two warnings.

    peft asks transformers for an attribute that has been renamed, and announces that it handles
    GPT-2's linear layers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out", UserWarning)
        return get_peft_model(base, lora, adapter_name=name)


def cast_frozen(encoder: nn.Module, dtype: torch.dtype) -> None:
    """Convert frozen fp32 weights to the compute type, in place; quantised ones stay as they are.

    The weights that a LoRA product is added to at every forward stay in fp32: see `FoldedLinear`.
    """
    kept = {
        id(p)
        for module in encoder.modules()
        if isinstance(module, FoldedLinear | GatedLinear) and type(module.base_layer) is nn.Linear
        for p in module.base_layer.parameters()
    }
    for parameter in encoder.parameters():
        frozen = not parameter.requires_grad and parameter.dtype == torch.float32
        if frozen and id(parameter) not in kept:
            parameter.data = parameter.data.to(dtype)


def _last_layers(base: PreTrainedModel, count: int | None) -> dict[str, Any]:
    """The options of peft that restrict the adapters to the last `count` transformer layers."""
    if count is None:
        return {}
    path, layers = layer_list(base)
    if count > len(layers):
        raise UserError(
            f"`encoder.lora.last_layers` should be at most the number of layers. Found {count}; "
            f"{base.config.model_type} has {len(layers)} here."
        )
    indices = range(len(layers) - count, len(layers))
    return {"layers_to_transform": list(indices), "layers_pattern": path}
