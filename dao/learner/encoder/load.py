"""Loading an encoder and its tokenizer: compute type, quantisation, frozen weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.utils import logging

from dao.errors import UserError
from dao.learner.basics.program import command
from dao.learner.encoder.find import Location
from dao.learner.settings.encoder_section import Encoder

__all__ = [
    "cpu_bf16",
    "freeze_pooler",
    "fuse_activations",
    "load_base",
    "load_config_of",
    "load_tokenizer",
    "meta_base",
    "pack_nf4",
    "precision",
    "quantization",
]


def precision(choice: str, device: torch.device) -> torch.dtype:
    """The compute type: bf16 only where the hardware multiplies it faster than fp32."""
    if choice != "auto":
        return torch.bfloat16 if choice == "bf16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Either unit multiplies bf16 2 (AVX512-BF16, early) to 10 (AMX) times as fast as fp32.
        fast = device.type == "cpu" and cpu_bf16() is not None
    return torch.bfloat16 if fast else torch.float32


def cpu_bf16() -> str | None:
    """The unit with which this processor multiplies bf16, or `None`: emulated, it is slower."""
    units = {"AMX-BF16": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}
    # These functions are private, and some versions of torch lack them.
    has = (unit for unit, test in units.items() if getattr(torch.cpu, test, lambda: False)())
    return next(has, None)


def load_config_of(location: Location) -> PreTrainedConfig:
    """The configuration in the encoder's own files."""
    config: PreTrainedConfig = _from_pretrained(AutoConfig, location)
    return config


def meta_base(location: Location) -> Any:  # noqa: ANN401
    """An encoder without its weights, for its names and shapes.

    Raises:
        UserError: there is no such model.
    """
    config = load_config_of(location)
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config, trust_remote_code=False)
    return model.get_encoder() if model.config.is_encoder_decoder else model


def load_tokenizer(location: Location) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the encoder."""
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, location)
    return tokenizer


def load_base(cfg: Encoder, location: Location, device: torch.device) -> PreTrainedModel:
    """The encoder without its own head; frozen and without dropout, unless `tune` is `full`.

    A quantised encoder is on `device`, with layer norms and embeddings in the compute type. Any
    other is in fp32 on the CPU; `cast_frozen` converts it once the adapters are attached. The
    vocabulary keeps its size: Phi's embedding has spare rows, and a smaller one would lose trained
    rows.
    """
    quantised = cfg.quantize != "none"
    dtype = precision(cfg.precision, device) if quantised else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": _attention(device)}
    if quantised:
        options["quantization_config"] = quantization(dtype, cfg.quantize)
        options["device_map"] = {"": device}
    base: PreTrainedModel = _from_pretrained(AutoModel, location, **options)
    if base.config.is_encoder_decoder:
        base = base.get_encoder()
    base.config.use_cache = False  # a cache of keys and values serves text generation alone
    _keep_gradients_on_cpu(base)
    if cfg.gradient_checkpointing:
        with warnings.catch_warnings():  # newer versions of transformers have renamed the method
            warnings.simplefilter("ignore", FutureWarning)
            base.gradient_checkpointing_enable({"use_reentrant": False})
    if cfg.tune == "full":
        freeze_pooler(base)
        return base
    for parameter in base.parameters() if quantised else ():
        if parameter.is_floating_point():  # a checkpoint in few bits has types of its own
            parameter.data = parameter.data.to(dtype)
    _remove_dropout(base)
    base.requires_grad_(False)
    return base


def freeze_pooler(base: PreTrainedModel) -> None:
    """Freeze, in place, the pooler: nothing uses its output, so it would never get a gradient."""
    for name, parameter in base.named_parameters():
        if "pooler" in name:
            parameter.requires_grad_(False)


def _attention(device: torch.device) -> str:
    # At sentence lengths the plain product beats the fused kernels on a CPU.
    return "eager" if device.type == "cpu" else "sdpa"


def quantization(dtype: torch.dtype, kind: str = "nf4") -> BitsAndBytesConfig:
    """The settings of transformers to quantise with bitsandbytes and compute in `dtype`."""
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def pack_nf4(weight: Tensor) -> dict[str, Tensor]:
    """A linear layer's weight as a checkpoint keeps it in NF4: suffix of its name -> tensor."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return {"": packed, **{f".{key}": part for key, part in state.as_dict(packed=True).items()}}


def _keep_gradients_on_cpu(model: nn.Module) -> None:
    # bitsandbytes 0.50 repacks 4-bit weights in place at the first evaluation on a CPU with
    # AVX512-BF16, and the repacked kernel has no gradient: training after a validation would stop.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.__dict__["support_avx512bf16_for_cpu"] = False


def _remove_dropout(model: nn.Module) -> None:
    # The frozen encoder's own dropout only slows and blurs its features. Some architectures have
    # it as modules, some as numbers that they hand to a function.
    for module in model.modules():
        for name, value in vars(module).items():
            if type(value) is float and (isinstance(module, nn.Dropout) or "drop" in name):
                setattr(module, name, 0.0)


def fuse_activations(model: nn.Module) -> None:
    """Replace, in place, GELUs written out in eight operations by the same function in one."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation | FastGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _from_pretrained(factory: Any, location: Location, **options: Any) -> Any:  # noqa: ANN401
    logging.disable_progress_bar()
    try:
        # Code that comes with a model is never run; without this, transformers would ask.
        return factory.from_pretrained(location.path, trust_remote_code=False, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a foreign folder can break the loaders anywhere
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own, which is never run"
        advice = ""
        if location.origin == "hub":
            advice = (
                f" Where the hub cannot be reached, download the model's folder (config.json, "
                f"tokenizer, *.safetensors) from huggingface.co/{location.name} elsewhere and give "
                f"it with --encoder FOLDER ({command('evaluate')}: encoder.name=FOLDER)."
            )
        raise UserError(
            f"`encoder.name` should be a text model in a folder or on the hub. "
            f"Found {location.name!r} ({location.origin}): {reason}{advice}"
        ) from None
