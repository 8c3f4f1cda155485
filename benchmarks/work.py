"""What every arm is given: the same sentences, labels, encoder and first weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import lengths
from benchmarks.encoders import encoder_settings, spec_of
from dao.learner.batches.batching import Examples
from dao.learner.batches.tokens import pad_id
from dao.learner.encoder.find import locate
from dao.learner.encoder.limits import token_limit
from dao.learner.encoder.load import load_tokenizer, meta_base
from dao.learner.encoder.lora import add_lora
from dao.learner.encoder.pooling import pooling_of
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.saving import save_weights
from dao.learner.settings.encoder_section import Encoder

__all__ = ["OUTPUTS", "Options", "Work", "prepare", "task_losses"]

OUTPUTS = {"cls": 3, "reg": 1}
"""Heads, as for Financial PhraseBank with a sentiment score."""


@dataclass(frozen=True)
class Options:
    """What the command line says; see its help."""

    encoder: str = "minilm"
    device: str = "cpu"
    rounds: int = 10
    steps: int = 20
    batch_size: int = 32
    lora: str = ""
    data: Path | None = None
    seed: int = 0
    precision: str = "auto"


@dataclass(frozen=True)
class Work:
    """One epoch of `rounds` x `steps` batches, the same for all arms.

    Attributes:
        encoder: settings of the learner; the reference arms follow them.
        examples: token ids, a class and a standardised score per sentence.
        start: folder with the adapter and the heads that every arm begins from.
        limit: tokens at which sentences were cut, and to which the padded arm pads.
        pad: token id to pad with.
        pooling: how token states become one vector.
    """

    options: Options
    encoder: Encoder
    examples: Examples
    start: Path
    limit: int
    pad: int
    pooling: str
    lr: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 1.0

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return torch.device(self.options.device)

    @property
    def longest(self) -> tuple[int, ...]:
        """The batch of the longest sentences, which is where memory peaks."""
        order = sorted(range(len(self.examples)), key=lambda i: -len(self.examples.ids[i]))
        return tuple(order[: self.options.batch_size])

    def tokens(self, rows: tuple[int, ...]) -> int:
        """Real tokens of these rows, without padding."""
        return sum(len(self.examples.ids[i]) for i in rows)


def task_losses(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of (n, 3) against classes, squared error of (n, 1) against scores."""
    return {
        "cls": functional.cross_entropy(outputs["cls"].float(), targets["cls"]),
        "reg": functional.mse_loss(outputs["reg"].squeeze(-1).float(), targets["reg"]),
    }


def prepare(options: Options, folder: Path) -> Work:
    """Write encoder, adapter and heads into `folder`, and draw sentences and labels.

    Raises:
        UserError: the encoder or the data cannot be used.
    """
    spec = spec_of(options.encoder)
    encoder = encoder_settings(spec, options.lora, options.precision, folder / "encoder")
    location = locate(encoder.name)
    tokenizer = load_tokenizer(location)
    base = meta_base(location)
    limit = token_limit(encoder.max_length, tokenizer, base)
    pooling = pooling_of(encoder, base)
    torch.manual_seed(options.seed)
    model = MultiTaskModel(add_lora(base, encoder.lora), OUTPUTS, pooling, torch.float32)
    _draw_adapter(model.encoder)
    save_weights(model, tokenizer, encoder.name, folder / "start")
    count = options.rounds * options.steps * options.batch_size
    if options.data is not None:
        ids = lengths.read(options.data, count, tokenizer, limit, options.seed)
    else:
        ids = lengths.drawn(count, len(tokenizer), limit, options.seed)
    targets = {"cls": torch.randint(OUTPUTS["cls"], (count,)), "reg": torch.randn(count)}
    rows: list[Any] = [np.asarray(row, dtype=np.int32) for row in ids]
    examples = Examples(rows, targets)
    start = folder / "start"
    return Work(options, encoder, examples, start, limit, pad_id(tokenizer), pooling)


def _draw_adapter(encoder: nn.Module) -> None:
    # B is drawn as well: with peft's zeros, arms that got the adapter wrong would still agree.
    for module in encoder.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                value = torch.empty(parameter.shape).normal_(std=0.02)
                module.register_parameter(name, nn.Parameter(value))
