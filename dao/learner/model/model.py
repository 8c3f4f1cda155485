"""One shared encoder and a linear head per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from peft import PeftModel
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
from dao.learner.model.experts import EXPERTS, Experts
from dao.learner.model.last_layer import at_tokens, positionwise
from dao.learner.model.router import router_width
from dao.learner.model.widening import widen
from dao.learner.settings.encoder_section import Encoder
from dao.learner.settings.experts_section import ExpertSettings

__all__ = ["MultiTaskModel", "build"]


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
        """Whether LoRA adapters, and not the encoder's own weights, are trained."""
        return isinstance(self.encoder, PeftModel)

    @property
    def base(self) -> PreTrainedModel:
        """The Hugging Face encoder itself."""
        base: PreTrainedModel = self.encoder.get_base_model() if self.adapted else self.encoder
        return base

    @property
    def device(self) -> torch.device:
        """The device of the heads and of the outputs."""
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
        """Where training reads one token per row, the last layer runs at that token alone."""
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
        """A function that runs the encoder on a batch and returns its last hidden states."""
        options = {"attention_mask": attention_mask}
        if segments is not None:
            options = self._separated(segments)
        elif self.numbers_positions:
            options["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        if self.separator is not None:
            options["token_type_ids"] = token_types(input_ids, self.separator, segments)
        # Without autocast, peft's quantised layers would compute in the fp32 of LoRA's weights, and
        # a whole encoder that trains in the fp32 of its own.
        low = (self.quantised or not self.adapted) and self.compute != torch.float32

        def states() -> Tensor:
            autocast = torch.autocast(input_ids.device.type, dtype=self.compute, enabled=low)
            with autocast, self._handed(prefix):
                found: Tensor = self.encoder(input_ids=input_ids, **options).last_hidden_state
            return found

        return states

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids (batch, length) to their embeddings, (batch, length, width).

        Embeddings of positions and of token types are not added.
        """
        found: Tensor = self.base.get_input_embeddings()(input_ids)
        return found

    def router_input(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the router of experts sees of a batch, (batch, width); arguments of `forward`."""
        assert self.experts is not None
        states = self._states(input_ids, attention_mask)
        return self.experts.look(lambda: self.embed(input_ids), states, attention_mask)

    def _separated(self, segments: Segments) -> dict[str, Tensor]:
        """Mask and position ids with which the rows of packed lines do not see each other."""
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
        """Numbers of parameters, `total` and `trainable`; packed ones count before quantisation."""
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
    cfg: Encoder,
    outputs: Mapping[str, int],
    device: torch.device,
    seed: int,
    experts: ExpertSettings | None = None,
    *,
    pairs: bool = False,
    wider: int = 0,
) -> tuple[MultiTaskModel, PreTrainedTokenizerBase, int]:
    """A fresh model, its tokenizer and the token limit; equal seeds give equal weights.

    With `experts`, the model has an adapter for each of their names, and a router. For `pairs` of
    texts it sets token types, where the encoder has them. Each feed-forward block gets `wider`
    units more than the encoder's own, where all weights train.
    """
    location = locate(cfg.name)
    tokenizer = load_tokenizer(location)
    base = load_base(cfg, location, device)
    limit = token_limit(cfg.max_length, tokenizer, base)
    if wider:
        widen(base, wider, seed)
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
