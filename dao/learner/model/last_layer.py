"""The last layer of an encoder, run only at the tokens that pooling reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dao.learner.encoder.layers import layer_list, replaced

__all__ = ["POSITIONWISE", "at_tokens", "positionwise"]

# Parts of a layer whose output at a token depends on their inputs at that token alone. What is left
# are mainly keys and values, which other tokens read, and norms.
_DECODER = ("self_attn.q_proj", "self_attn.o_proj", "mlp")
_BERT = ("attention.self.query", "attention.output", "intermediate", "output")
POSITIONWISE = {
    "phi": ("self_attn.q_proj", "self_attn.dense", "mlp"),
    **dict.fromkeys(("gemma", "llama", "mistral", "qwen2", "qwen3"), _DECODER),
    "gpt2": ("attn.c_proj", "mlp"),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), _BERT),
}


def positionwise(base: PreTrainedModel) -> list[str]:
    """Paths of the position-wise parts of the last layer; none for an unknown architecture.

    The list is empty, too, under gradient checkpointing, because the backward pass runs the layer
    again without knowing the tokens, and for layers that cut their input into chunks.
    """
    parts = POSITIONWISE.get(base.config.model_type, ())
    checkpointing = any(getattr(m, "gradient_checkpointing", False) for m in base.modules())
    chunks = bool(getattr(base.config, "chunk_size_feed_forward", None))
    if not parts or checkpointing or chunks:
        return []
    path, layers = layer_list(base)
    return [f"{path}.{len(layers) - 1}.{part}" for part in parts]


@contextmanager
def at_tokens(base: PreTrainedModel, parts: list[str], index: Tensor) -> Iterator[None]:
    """Let these parts compute one token per row and give zeros at the others.

    Output and gradient at those tokens are exact; the output at other tokens is meaningless and
    must not be read. Two things still differ: int8 layers of bitsandbytes round by the outliers
    among all tokens that they see, and dropout draws other numbers. Other threads must not run the
    model meanwhile, so only training uses it.

    Args:
        base: a Hugging Face encoder.
        parts: of its last layer, as `positionwise` gives them.
        index: (batch,), a token's position per row.
    """
    modules = [base.get_submodule(path) for path in parts]
    rows = torch.arange(len(index), device=index.device)
    with replaced(modules, lambda own: _at(own, rows, index)):
        yield


def _at(own: Callable[..., Tensor], rows: Tensor, index: Tensor) -> Callable[..., Tensor]:
    def forward(*args: Tensor, **options: Any) -> Tensor:  # noqa: ANN401
        # One token long, not a matrix: a module may count on three dimensions.
        found = own(*(x[rows, index].unsqueeze(1) for x in args), **options)
        out = found.new_zeros(*args[0].shape[:-1], found.shape[-1])
        out[rows, index] = found.squeeze(1)
        return out

    return forward
