"""The encoder of each arm, so that arms with dendrites or experts have fair opponents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from dao.learner.dendrites.targets import LOW_RANK, target_modules
from dao.learner.encoder.find import locate
from dao.learner.encoder.load import freeze_pooler, meta_base
from dao.learner.encoder.lora import add_lora
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.router import Router, router_width
from dao.learner.model.widening import parameters_per_unit
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder

__all__ = ["added_parameters", "added_units", "arm_encoder"]


def arm_encoder(cfg: Config, outputs: Mapping[str, int]) -> Encoder:
    """The encoder's settings in the arm of `cfg`.

    Under dendrites on LoRA's matrices, LoRA is computed as three products; the arms to compare with
    compute it in the same way, because their rounding would differ otherwise. Dendrites beside a
    whole layer leave LoRA as it is. For
    `capacity`, LoRA's rank is the lowest with which as many parameters train as with all the sets
    of dendrites; alpha / r stays. Its heads then start from other random weights than those of the
    other arms at the same seed, because LoRA draws more numbers before them. The same is done for
    the single LoRA beside experts: it has at least the parameters of all of them and the router.

    With `encoder.tune=full` there is no LoRA to raise: see `added_units`.

    Args:
        cfg: the run's settings.
        outputs: head width per task.
    """
    if cfg.experts.control == "single":
        return _with_rank(cfg.encoder, _single_rank(cfg))
    if not cfg.dendrites.enabled:
        return cfg.encoder
    changed: dict[str, object] = {}
    if cfg.dendrites.where not in ("heads", LOW_RANK):
        changed["folded"] = False
    if cfg.dendrites.control == "capacity" and cfg.encoder.tune == "lora":
        rank = _capacity_rank(cfg, outputs)
        changed |= _ranked(cfg.encoder, rank)
    return cfg.encoder.model_copy(update={"lora": cfg.encoder.lora.model_copy(update=changed)})


def added_units(cfg: Config, outputs: Mapping[str, int]) -> int:
    """By how much `capacity` widens each feed-forward block of an encoder that is trained whole.

    It is the lowest number with which as many parameters train as with all the sets of dendrites; 0
    in every other arm, and with LoRA, whose rank is raised.

    Args:
        cfg: the run's settings, with the encoder that was found.
        outputs: head width per task.

    Raises:
        UserError: the encoder has no feed-forward blocks that can be widened.
    """
    if cfg.encoder.tune != "full" or not cfg.dendrites.enabled:
        return 0
    if cfg.dendrites.control != "capacity":
        return 0
    base = meta_base(locate(cfg.encoder.name))
    freeze_pooler(base)
    with torch.device("meta"):
        model = MultiTaskModel(base, outputs, "mean", torch.float32)
    targets = [model.get_submodule(name) for name in target_modules(model, cfg.dendrites.where)]
    added = added_parameters(targets, cfg.dendrites.sets)
    return math.ceil(added / parameters_per_unit(base))


def _ranked(encoder: Encoder, rank: int) -> dict[str, object]:
    return {"r": rank, "alpha": encoder.lora.alpha * rank / encoder.lora.r}


def _with_rank(encoder: Encoder, rank: int) -> Encoder:
    changed = _ranked(encoder, rank)
    return encoder.model_copy(update={"lora": encoder.lora.model_copy(update=changed)})


def _single_rank(cfg: Config) -> int:
    """The lowest rank with which one LoRA has the parameters of all experts and of the router."""
    base = meta_base(locate(cfg.encoder.name))
    width = router_width(base, cfg.experts.router)
    with torch.device("meta"):
        router = sum(p.numel() for p in Router(width, len(cfg.experts.names)).parameters())
    per_rank = _per_rank(add_lora(base, cfg.encoder.lora))
    return int(len(cfg.experts.names) * cfg.encoder.lora.r + math.ceil(router / per_rank))


def _per_rank(encoder: nn.Module) -> int:
    layers: list[Any] = [module for module in encoder.modules() if isinstance(module, LoraLayer)]
    return sum(layer.in_features + layer.out_features for layer in layers)


def _capacity_rank(cfg: Config, outputs: Mapping[str, int]) -> int:
    lora = cfg.encoder.lora
    encoder = add_lora(meta_base(locate(cfg.encoder.name)), lora)
    with torch.device("meta"):
        model = MultiTaskModel(encoder, outputs, "mean", torch.float32)
    targets = [model.get_submodule(name) for name in target_modules(model, cfg.dendrites.where)]
    added = added_parameters(targets, cfg.dendrites.sets, cfg.dendrite_rank)
    return int(lora.r + math.ceil(added / _per_rank(encoder)))


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
