"""From the states of the tokens to one vector per text."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dao.learner.settings.encoder_section import Encoder

__all__ = ["attends_causally", "numbers_positions", "pool", "pooling_of", "token_index"]


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


def pooling_of(cfg: Encoder, base: PreTrainedModel) -> str:
    """The pooling of the settings; `auto` is `last` for a causal model and `mean` for others."""
    if cfg.pooling != "auto":
        return cfg.pooling
    return "last" if attends_causally(base) else "mean"


def attends_causally(base: PreTrainedModel) -> bool:
    """Whether the model is causal: each token sees only itself and earlier tokens."""
    decoder = bool(getattr(base.config, "is_decoder", False))
    return decoder or any(getattr(m, "is_causal", False) is True for m in base.modules())


def numbers_positions(base: nn.Module) -> bool:
    """Whether the model takes position ids that start at 0 at a text's first real token.

    Models of the RoBERTa family number positions from the padding id and do it themselves.
    """
    takes = "position_ids" in inspect.signature(base.forward).parameters
    own = any(hasattr(m, "create_position_ids_from_inputs_embeds") for m in base.modules())
    return takes and not own
