"""One shared encoder and a linear head per task; saved as a peft adapter beside the heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dao.learner import config as settings
from dao.learner.checkpoint import check_fit
from dao.learner.encoder import (
    add_lora,
    attends_causally,
    cast_frozen,
    fuse_activations,
    load_base,
    load_tokenizer,
    locate,
    numbers_positions,
    pool,
    pooling_of,
    precision,
    token_limit,
)
from dao.learner.files import read_tensors, replace_folder, write_tensors
from dao.learner.layers import Boundary, handed
from dao.learner.packing import Segments, positions, separating_mask, unpack

__all__ = ["MultiTaskModel", "build", "load_weights", "read_tensors", "save_weights"]

ADAPTER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ENCODER = "encoder"
ENCODER_WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"


class MultiTaskModel(nn.Module):
    """An encoder whose pooled state feeds one linear head per task, in one forward.

    Args:
        encoder: a Hugging Face encoder, or a peft model around one.
        outputs: head width per task, in order.
        pooling: `mean`, `last` or `first`.
        compute: type of the matrix products; heads and pooled states are always fp32.
    """

    def __init__(
        self,
        encoder: PeftModel | PreTrainedModel,
        outputs: Mapping[str, int],
        pooling: str,
        compute: torch.dtype,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in outputs.items()})
        self.pooling = pooling
        self.compute = compute
        self.numbers_positions = numbers_positions(self.base)
        self.causal = attends_causally(self.base)
        self.quantised = hasattr(self.base, "quantization_method")
        self.boundary: Boundary | None = None  # set where states of frozen layers are cached

    @property
    def adapted(self) -> bool:
        """Whether LoRA is what trains of the encoder."""
        return isinstance(self.encoder, PeftModel)

    @property
    def base(self) -> PreTrainedModel:
        """The Hugging Face encoder itself."""
        base: PreTrainedModel = self.encoder.get_base_model() if self.adapted else self.encoder
        return base

    @property
    def device(self) -> torch.device:
        """Where the heads, and so the outputs, are."""
        return next(self.heads.parameters()).device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        tap: Callable[[Tensor], Tensor] | None = None,
        segments: Segments | None = None,
        prefix: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Token ids and mask (batch, length) to task -> outputs (batch, outputs of the task).

        `tap` sees the pooled representation (batch, width) inside the graph, which is where
        `DAOLoss.tap` has to stand when its source is `rep`. With `segments`, ids and mask are
        packed lines (lines, width); outputs are per row of the batch all the same. `prefix`
        (batch, length, width) are the states at `boundary`; with them, the layers below do not run.
        """
        pooled = self.represent(input_ids, attention_mask, segments, prefix)
        if tap is not None:
            pooled = tap(pooled)
        return {task: head(pooled) for task, head in self.heads.items()}

    def represent(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segments: Segments | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """The pooled representation (batch, width), fp32."""
        options = {"attention_mask": attention_mask}
        if segments is not None:
            options = self._separated(segments)
        elif self.numbers_positions:
            options["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        # peft's quantised layers have no fold, and would cast what they see to LoRA's fp32; weights
        # that train stay in fp32.
        low = (self.quantised or not self.adapted) and self.compute != torch.float32
        autocast = torch.autocast(input_ids.device.type, dtype=self.compute, enabled=low)
        with autocast, self._handed(prefix):
            hidden = self.encoder(input_ids=input_ids, **options).last_hidden_state
        if segments is not None:
            hidden, attention_mask = unpack(hidden, segments)
        return pool(hidden.float(), attention_mask, self.pooling)

    def _separated(self, segments: Segments) -> dict[str, Tensor]:
        """What makes the encoder treat the rows of packed lines as if each were alone."""
        # transformers hands a mask of four dimensions on as it is; eager attention adds it.
        additive = self.compute if self.attention == "eager" else None
        mask = separating_mask(segments.ids, causal=self.causal, additive=additive)
        return {"attention_mask": mask, "position_ids": positions(segments.ids)}

    @property
    def attention(self) -> str:
        """Name of the attention implementation, as transformers spells it."""
        return str(self.encoder.config._attn_implementation)

    def _handed(self, prefix: Tensor | None) -> AbstractContextManager[None]:
        if prefix is None:
            return nullcontext()
        assert self.boundary is not None
        return handed(self.base, self.boundary, prefix)

    @property
    def precision(self) -> str:
        """Name of the compute type, as the settings spell it."""
        return "bf16" if self.compute == torch.bfloat16 else "fp32"

    def count(self) -> dict[str, int]:
        """Parameters, `total` and `trainable`; quantised ones count as what they stand for."""
        if self.adapted:
            trainable, total = self.encoder.get_nb_trainable_parameters()
        else:
            total = sum(p.numel() for p in self.encoder.parameters())
            trainable = sum(p.numel() for p in self.shared_parameters())
        heads = sum(p.numel() for p in self.heads.parameters())
        return {"total": total + heads, "trainable": trainable + heads}

    def describe(self) -> str:
        """What is adapted and how it is computed, in a line for the reader of a log."""
        layers = [n for n, m in self.encoder.named_modules() if isinstance(m, LoraLayer)]
        names = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
        what = f"LoRA on {len(layers)} layers ({names})" if self.adapted else "the whole encoder"
        return (
            f"{what}, {self.count()['trainable']:,} trainable parameters with the heads; "
            f"{self.precision}, {self.attention} attention on {self.device}"
        )

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters that every task shares: those of the encoder."""
        return [p for p in self.encoder.parameters() if p.requires_grad]


def build(
    cfg: settings.Encoder, outputs: Mapping[str, int], device: torch.device, seed: int
) -> tuple[MultiTaskModel, PreTrainedTokenizerBase, int]:
    """A fresh model, its tokenizer and the token limit; equal seeds give equal weights."""
    location = locate(cfg.name)
    tokenizer = load_tokenizer(location)
    base = load_base(cfg, location, device)
    limit = token_limit(cfg.max_length, tokenizer, base)
    torch.manual_seed(seed)
    pooling = pooling_of(cfg, base)
    fuse_activations(base)
    compute = precision(cfg.precision, device)
    if cfg.tune == "full":
        encoder: PeftModel | PreTrainedModel = base
    else:
        encoder = add_lora(base, cfg.lora)
        cast_frozen(encoder, compute)
    model = MultiTaskModel(encoder, outputs, pooling, compute)
    return model.to(device), tokenizer, limit


def save_weights(
    model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, name: str, folder: Path
) -> None:
    """Write the heads, the tokenizer, and what was trained of the encoder into `folder`.

    That is `adapter/`, a plain peft adapter, or `encoder/`, a whole Hugging Face model.
    """
    if model.adapted:
        # The name, not the place on this machine, is what makes the adapter loadable elsewhere.
        model.encoder.peft_config["default"].base_model_name_or_path = name
        replace_folder(folder / ADAPTER, lambda place: _save_adapter(model, place))
    else:
        replace_folder(folder / ENCODER, lambda place: _save_whole(model, tokenizer, place))
    write_tensors(folder / HEADS, model.heads.state_dict())
    replace_folder(folder / "tokenizer", tokenizer.save_pretrained)


def _save_whole(model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)  # so that the folder can be another run's encoder


def _save_adapter(model: MultiTaskModel, folder: Path) -> None:
    model.encoder.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def load_weights(model: MultiTaskModel, folder: Path) -> None:
    """Read what `save_weights` wrote; every tensor must be there and fit.

    Raises:
        UserError: a file or tensor is missing, superfluous, of another shape or not finite.
    """
    if model.adapted:
        adapter = read_tensors(folder / ADAPTER / ADAPTER_WEIGHTS)
        expected = get_peft_model_state_dict(model.encoder, save_embedding_layers=False)
        _check_fit(adapter, expected, folder / ADAPTER)
        set_peft_model_state_dict(model.encoder, adapter)
    else:
        weights = read_tensors(folder / ENCODER / ENCODER_WEIGHTS)
        _check_fit(weights, _untied(model.base.state_dict(), weights), folder / ENCODER)
        model.base.load_state_dict(weights, strict=False)
    heads = read_tensors(folder / HEADS)
    _check_fit(heads, model.heads.state_dict(), folder / HEADS)
    model.heads.load_state_dict(heads)


def _untied(state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without further names of a tensor that is saved under another one."""
    known = {state[name].data_ptr() for name in saved if name in state}
    return {n: t for n, t in state.items() if n in saved or t.data_ptr() not in known}


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: Path) -> None:
    check_fit(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, place)
