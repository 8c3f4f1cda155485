"""Floating-point operations of a training step, counted from shapes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dao.learner.encoder.find import locate
from dao.learner.encoder.load import meta_base
from dao.learner.encoder.lora import add_lora
from dao.learner.settings.encoder_section import Encoder

__all__ = ["step_flops"]


def step_flops(cfg: Encoder, lengths: Sequence[int]) -> float:
    r"""Operations of one LoRA step over sentences of these lengths, without padding.

    .. math:: 4 P T + 6 A T + 12 L H \sum_i n_i^2

    with T tokens in all; P weights of frozen linear layers (forward 2, gradient of the inputs 2:
    frozen weights have none of their own); A weights of LoRA (forward 2, backward 4); L layers of
    width H, whose scores and mixing take 4 n^2 H forward and twice that backward. Full attention is
    counted for causal models as well, as is usual, and whole layers, though `dao.learner` trains
    most of a causal model's last one at a single token per sentence. Embeddings, norms,
    activations, heads and the optimizer are left out, as is what a folded LoRA product or gradient
    checkpointing does beside.
    """
    model = add_lora(meta_base(locate(cfg.name)), cfg.lora)
    linear = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "pooler" not in name
    ]
    adapter = sum(m.weight.numel() for name, m in linear if "lora_" in name)
    frozen = sum(m.weight.numel() for name, m in linear if "lora_" not in name)
    tokens, squares = sum(lengths), sum(n * n for n in lengths)
    config = model.get_base_model().config
    attention = 12 * config.num_hidden_layers * config.hidden_size * squares
    return float((4 * frozen + 6 * adapter) * tokens + attention)
