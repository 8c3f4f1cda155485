"""What makes a run impossible, found before there is a run folder; by --dry-run as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.encoder.find import locate
from dao.learner.encoder.limits import check_pairs, check_vocabulary, embeddings, token_limit
from dao.learner.encoder.load import load_tokenizer, meta_base
from dao.learner.encoder.lora import add_lora, lora_config
from dao.learner.encoder.pooling import attends_causally
from dao.learner.experts.domains import check_labels, domain_codes
from dao.learner.experts.stages import check_one_process
from dao.learner.inference.predictor import pick_device
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.packing_check import check_positions
from dao.learner.model.prefix import frozen_layers
from dao.learner.model.widening import parameters_per_unit
from dao.learner.pipeline.copied import copied_growths
from dao.learner.scoring.assessment import TableLike, slice_columns
from dao.learner.settings.checks import DOMAIN
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder
from dao.learner.tracking.trackers import check_installed
from dao.learner.training.plan import make_plan
from dao.learner.weighting.weighting import make_weighting

__all__ = ["check", "domains", "slices"]


def check(
    cfg: Config, table: TableLike, tasks: Mapping[str, Task], *, ask_hub: bool = True
) -> None:
    """Refuse what the data, the encoder or this machine make impossible.

    Args:
        cfg: the settings of the run.
        table: the data.
        tasks: fitted to the training rows, by name.
        ask_hub: whether an encoder that is on the hub is looked at.

    Raises:
        UserError: a tracker that is not installed; slices or domains that the data do not have, or
            a domain without labels to select its expert by; experts in several processes; a device
            that is not there; a weighting that cannot be made; growth of dendrites for which there
            is no time, or growths of another run that cannot be copied; an encoder that cannot be
            had, or not with these adapters, this pooling, these texts, packed rows or a cache of
            its first layers.
    """
    check_installed(cfg.train.track)
    slices(cfg, table, tasks)
    domains(cfg, table, tasks)
    pick_device(cfg.device)
    make_weighting(cfg, list(cfg.tasks), shared=list, trainable=list, device=torch.device("cpu"))
    copied = copied_growths(cfg, table.report)
    if cfg.train.batch_tokens is None and not cfg.experts.names:
        make_plan([1] * len(table.rows("train")), cfg, copied=copied)
    texts = table.frame["text"].tolist()
    base = _base(cfg.encoder, ask_hub=ask_hub)
    if base is not None:
        _check_encoder(cfg.encoder, base, texts, pairs=cfg.data.pairs)
        _check_model(cfg, base, tasks)


def _base(cfg: Encoder, *, ask_hub: bool) -> Any:  # noqa: ANN401
    """The encoder without its weights; None for one of unknown layers.

    That is one that is or may be made from scratch and, without `ask_hub`, one on the hub.
    """
    if cfg.scratch.when == "always":
        return None
    location = locate(cfg.name)
    if location.origin == "hub" and (cfg.scratch.when == "offline" or not ask_hub):
        return None
    try:
        return meta_base(location)
    except UserError:
        raise
    except Exception:
        return None  # a foreign configuration can break any constructor; loading says what is wrong


def _check_encoder(cfg: Encoder, base: Any, texts: Sequence[str], *, pairs: bool) -> None:  # noqa: ANN401
    """Refuse settings that do not fit the encoder, and texts that it cannot read.

    Raises:
        UserError: as `lora_config`; `first` as the pooling of a causal model, whose first token
            sees nothing else of the text; a token of the `texts` that the model has no embedding
            for; for texts that are `pairs`, as `check_pairs`.
    """
    if cfg.pooling == "first" and attends_causally(base):
        raise UserError(
            f"`encoder.pooling` should be last or mean with a model that reads from left to right. "
            f"Found first, and the first token of {base.config.model_type} sees no other."
        )
    if cfg.tune == "lora":
        lora_config(base, cfg.lora)
    tokenizer = load_tokenizer(locate(cfg.name))
    limit = token_limit(cfg.max_length, tokenizer, base)
    if pairs:
        check_pairs(tokenizer, base, texts, limit)
    check_vocabulary(tokenizer, embeddings(base), texts, limit, pairs=pairs)


def _check_model(cfg: Config, base: Any, tasks: Mapping[str, Task]) -> None:  # noqa: ANN401
    """Refuse what a model on this encoder cannot have of what the settings ask for.

    That is packed rows, a cache of first layers, or wider feed-forward blocks.
    """
    widened = cfg.encoder.tune == "full" and cfg.dendrites.control == "capacity"
    if not (cfg.train.packing or cfg.encoder.prefix_cache or widened):
        return
    try:
        encoder = add_lora(base, cfg.encoder.lora) if cfg.encoder.tune == "lora" else base
        outputs = {name: task.outputs for name, task in tasks.items()}
        with torch.device("meta"):
            model = MultiTaskModel(encoder, outputs, "mean", torch.float32)
    except UserError:
        raise
    except Exception:
        return  # a foreign model can break any constructor; loading says what is wrong
    if widened:
        parameters_per_unit(model.base)
    if cfg.train.packing:
        check_positions(model)
    if cfg.encoder.prefix_cache:
        frozen_layers(model.base)


def slices(cfg: Config, table: TableLike, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Columns to break figures down by; with experts the domain is always among them.

    Raises:
        UserError: the data have no such column.
    """
    # The domain stays where it is a task as well.
    further = table.frame.drop(columns=[name for name in tasks if name != DOMAIN])
    found = slice_columns(cfg.data.slices, further, cfg.target_columns, tasks)
    return found if "domain" in found or not cfg.experts.names else (*found, "domain")


def domains(cfg: Config, table: TableLike, tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    """Split -> the number of each row's expert, where there are experts or the arm beside them.

    Raises:
        UserError: as `domain_codes`, `check_labels` and `check_one_process`.
    """
    if not cfg.experts.names:
        return {}
    codes = domain_codes(cfg, table)
    if cfg.routed:
        check_one_process()
        split = "validation"
        check_labels(cfg.experts.names, codes[split], table.rows(split), tasks)
    return codes
