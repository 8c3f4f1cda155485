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

from dao.learner.batches.packing import Segments, positions, separating_mask, unpack
from dao.learner.batches.token_types import token_types, type_separator
from dao.learner.encoder.find import locate
from dao.learner.encoder.gated import Gate
from dao.learner.encoder.layers import Boundary, handed
from dao.learner.encoder.limits import token_limit
from dao.learner.encoder.load import fuse_activations, load_base, load_tokenizer, precision
from dao.learner.encoder.lora import add_experts, add_lora, cast_frozen
from dao.learner.encoder.pooling import (
    attends_causally,
    numbers_positions,
    pool,
    pooling_of,
    token_index,
)
from dao.learner.model.experts import EXPERTS, Experts, load_experts, save_experts
from dao.learner.model.last_layer import at_tokens, positionwise
from dao.learner.model.router import check_varies, router_width
from dao.learner.settings import sections as settings
from dao.learner.storage.checkpoint import check_fit
from dao.learner.storage.files import read_tensors, replace_folder, write_tensors

__all__ = ["MultiTaskModel", "build", "load_weights", "read_tensors", "save_weights"]

ADAPTER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ENCODER = "encoder"
ENCODER_WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"
PROBES = 32  # tokens that the router of a loaded model has to see as different


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
        # Parts of the last layer that training runs at the pooled tokens only.
        self.at_pooled = [] if pooling == "mean" else positionwise(self.base)
        self.boundary: Boundary | None = None  # set where states of frozen layers are cached
        self.experts: Experts | None = None  # set where several adapters are mixed
        self.separator: int | None = None  # set for pairs: the id after which token types are 1

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
        A model that mixes experts adds their weights, (batch, experts), under `EXPERTS`.
        """
        pooled = self.represent(input_ids, attention_mask, segments, prefix)
        if tap is not None:
            pooled = tap(pooled)
        outputs = {task: head(pooled) for task, head in self.heads.items()}
        if self.experts is not None and self.experts.weights is not None:
            outputs[EXPERTS] = self.experts.weights
        return outputs

    def represent(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segments: Segments | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """The pooled representation (batch, width), fp32."""
        states = self._states(input_ids, attention_mask, segments, prefix)
        if self.experts is not None:
            self.experts.route(lambda: self.embed(input_ids), states, attention_mask)
        with self._narrowed(attention_mask, segments):
            hidden = states()
        if segments is not None:
            hidden, attention_mask = unpack(hidden, segments)
        return pool(hidden, attention_mask, self.pooling)

    def _narrowed(self, mask: Tensor, segments: Segments | None) -> AbstractContextManager[None]:
        """Where one token per row is read, the last layer need not give the others."""
        if not self.training or segments is not None or not self.at_pooled:
            return nullcontext()
        return at_tokens(self.base, self.at_pooled, token_index(mask, self.pooling))

    def _states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segments: Segments | None = None,
        prefix: Tensor | None = None,
    ) -> Callable[[], Tensor]:
        """What runs the encoder on a batch: the last hidden states, in its compute type."""
        options = {"attention_mask": attention_mask}
        if segments is not None:
            options = self._separated(segments)
        elif self.numbers_positions:
            options["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        if self.separator is not None:
            options["token_type_ids"] = token_types(input_ids, self.separator, segments)
        # peft's quantised layers have no fold, and would cast what they see to LoRA's fp32; weights
        # that train stay in fp32.
        low = (self.quantised or not self.adapted) and self.compute != torch.float32

        def states() -> Tensor:
            autocast = torch.autocast(input_ids.device.type, dtype=self.compute, enabled=low)
            with autocast, self._handed(prefix):
                found: Tensor = self.encoder(input_ids=input_ids, **options).last_hidden_state
            return found

        return states

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids (batch, length) to what the encoder's first layer gets, (batch, length, width).

        Of positions and of token types nothing is in it.
        """
        found: Tensor = self.base.get_input_embeddings()(input_ids)
        return found

    def router_input(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the router of experts sees of a batch, (batch, width); arguments of `forward`."""
        assert self.experts is not None
        states = self._states(input_ids, attention_mask)
        return self.experts.look(lambda: self.embed(input_ids), states, attention_mask)

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
        own = [self.heads, *([] if self.experts is None else [self.experts])]
        heads = sum(p.numel() for module in own for p in module.parameters())
        return {"total": total + heads, "trainable": trainable + heads}

    def describe(self) -> str:
        """What is adapted and how it is computed, in a line for the reader of a log."""
        layers = [n for n, m in self.encoder.named_modules() if isinstance(m, LoraLayer)]
        names = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
        what = f"LoRA on {len(layers)} layers ({names})" if self.adapted else "the whole encoder"
        if self.experts is not None:
            what = f"experts {', '.join(self.experts.names)}, each a {what}, and a router"
        return (
            f"{what}, {self.count()['trainable']:,} trainable parameters with the heads; "
            f"{self.precision}, {self.attention} attention on {self.device}"
        )

    def shared_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters that every task shares: those of encoder and router."""
        router = () if self.experts is None else self.experts.parameters()
        return [p for p in (*self.encoder.parameters(), *router) if p.requires_grad]


def build(
    cfg: settings.Encoder,
    outputs: Mapping[str, int],
    device: torch.device,
    seed: int,
    experts: settings.Experts | None = None,
    *,
    pairs: bool = False,
) -> tuple[MultiTaskModel, PreTrainedTokenizerBase, int]:
    """A fresh model, its tokenizer and the token limit; equal seeds give equal weights.

    With `experts` it has an adapter for each of their names, and a router. For `pairs` of texts it
    has token types, if its encoder has.
    """
    location = locate(cfg.name)
    tokenizer = load_tokenizer(location)
    base = load_base(cfg, location, device)
    limit = token_limit(cfg.max_length, tokenizer, base)
    torch.manual_seed(seed)
    pooling = pooling_of(cfg, base)
    fuse_activations(base)
    compute = precision(cfg.precision, device)
    gate = None
    if cfg.tune == "full":
        encoder: PeftModel | PreTrainedModel = base
    elif experts is None:
        encoder = add_lora(base, cfg.lora)
    else:
        lora = cfg.lora
        gate = Gate(experts.names, rank=lora.r, scale=lora.alpha / lora.r, folded=lora.folded)
        encoder = add_experts(base, lora, gate)
    if cfg.tune != "full":
        cast_frozen(encoder, compute)
    model = MultiTaskModel(encoder, outputs, pooling, compute)
    model.separator = type_separator(tokenizer, base) if pairs else None
    if experts is not None and gate is not None:
        width = router_width(base, experts.router)
        model.experts = Experts(gate, width, experts.router, experts.routing)
    return model.to(device), tokenizer, limit


def save_weights(
    model: MultiTaskModel, tokenizer: PreTrainedTokenizerBase, name: str, folder: Path
) -> None:
    """Write the heads, the tokenizer, and what was trained of the encoder into `folder`.

    That is `adapter/`, a plain peft adapter, or `encoder/`, a whole Hugging Face model, or what
    `save_experts` writes.
    """
    if model.experts is not None:
        save_experts(model.encoder, model.experts, name, folder)
    elif model.adapted:
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
        UserError: a file or tensor is missing, superfluous, of another shape or not finite; or a
            router of experts sees nothing of the text.
    """
    if model.experts is not None:
        load_experts(model.encoder, model.experts, folder)
    elif model.adapted:
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
    if model.experts is not None:
        _check_router_input(model, model.experts)


def _check_router_input(model: MultiTaskModel, experts: Experts) -> None:
    """See that the router can tell texts of different tokens apart."""
    words = model.base.get_input_embeddings().num_embeddings
    ids = torch.linspace(0, words - 1, min(PROBES, words), device=model.device).long()[:, None]
    check_varies(model.router_input(ids, torch.ones_like(ids)), experts.reads)


def _untied(state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without further names of a tensor that is saved under another one."""
    known = {state[name].data_ptr() for name in saved if name in state}
    return {n: t for n, t in state.items() if n in saved or t.data_ptr() not in known}


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], place: Path) -> None:
    check_fit(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, place)
