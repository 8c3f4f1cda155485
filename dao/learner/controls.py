"""The arms that dendrites are compared with: what their encoder must be for a fair comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModel

from dao.learner.config import Config, Encoder
from dao.learner.dendrite_targets import LOW_RANK, target_modules
from dao.learner.encoder import Location, add_lora, load_config_of, locate
from dao.learner.model import MultiTaskModel

__all__ = ["added_parameters", "arm_encoder", "meta_base"]


def arm_encoder(cfg: Config, outputs: Mapping[str, int]) -> Encoder:
    """The encoder's settings in the arm of `cfg`.

    Dendrites on LoRA's matrices keep its products apart, so the arms that are compared with them
    do so as well: otherwise their rounding would differ. Beside a whole layer they let it be. For
    `capacity`, LoRA's rank is the lowest with which as many parameters train as with all the sets
    of dendrites; alpha / r stays. Its heads then start from other random weights than those of the
    other arms at the same seed, because LoRA draws more numbers before them.

    Args:
        cfg: the run's settings.
        outputs: head width per task.
    """
    if not cfg.dendrites.enabled:
        return cfg.encoder
    changed: dict[str, object] = {}
    if cfg.dendrites.where not in ("heads", LOW_RANK):
        changed["folded"] = False
    if cfg.dendrites.control == "capacity":
        rank = _capacity_rank(cfg, outputs)
        changed |= {"r": rank, "alpha": cfg.encoder.lora.alpha * rank / cfg.encoder.lora.r}
    return cfg.encoder.model_copy(update={"lora": cfg.encoder.lora.model_copy(update=changed)})


def _capacity_rank(cfg: Config, outputs: Mapping[str, int]) -> int:
    lora = cfg.encoder.lora
    encoder = add_lora(meta_base(locate(cfg.encoder.name)), lora)
    with torch.device("meta"):
        model = MultiTaskModel(encoder, outputs, "mean", torch.float32)
    targets = [model.get_submodule(name) for name in target_modules(model, cfg.dendrites.where)]
    added = added_parameters(targets, cfg.dendrites.sets, cfg.dendrite_rank)
    layers: list[Any] = [module for module in encoder.modules() if isinstance(module, LoraLayer)]
    per_rank = sum(layer.in_features + layer.out_features for layer in layers)
    return int(lora.r + math.ceil(added / per_rank))


def added_parameters(targets: Iterable[Any], sets: int, rank: int | None = None) -> int:
    """Trainable parameters that so many dendrites on each linear layer come to, gates included.

    Args:
        targets: linear layers; with `rank`, those with LoRA.
        sets: dendrites on each.
        rank: of the dendrites; None where they are copies of their layers.
    """
    total = 0
    for layer in targets:
        pair = (layer.in_features + layer.out_features) * (rank or 0)
        own = pair if rank else sum(p.numel() for p in layer.parameters())
        total += sets * (own + layer.out_features) + layer.out_features * sets * (sets - 1) // 2
    return total


def meta_base(location: Location) -> nn.Module:
    """An encoder without its weights, for its names and shapes.

    Raises:
        UserError: there is no such model.
    """
    config = load_config_of(location)
    with torch.device("meta"):
        model: Any = AutoModel.from_config(config)
    base: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
    return base
