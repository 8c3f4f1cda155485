"""What makes a run impossible, found before there is a run folder; by --dry-run as well."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.dendrites.controls import check_encoder, meta_base
from dao.learner.encoder.find import locate
from dao.learner.encoder.lora import add_lora
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
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder
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
        UserError: slices or domains that the data do not have, or a domain without labels to
            select its expert by; experts in several processes; a device that is not there; a
            weighting that cannot be made; growth of dendrites for which there is no time, or
            growths of another run that cannot be copied; an
            encoder that cannot be had, or not with these adapters, this pooling, these texts,
            packed rows or a cache of its first layers.
    """
    slices(cfg, table, tasks)
    domains(cfg, table, tasks)
    pick_device(cfg.device)
    make_weighting(cfg, list(cfg.tasks), shared=list, trainable=list, device=torch.device("cpu"))
    copied = copied_growths(cfg, table.report)
    if cfg.train.batch_tokens is None and not cfg.experts.names:
        make_plan([1] * len(table.rows("train")), cfg, copied=copied)
    texts = table.frame["text"].tolist()
    check_encoder(cfg.encoder, ask_hub=ask_hub, texts=texts, pairs=cfg.data.pairs)
    _check_model(cfg, tasks, ask_hub=ask_hub)


def _check_model(cfg: Config, tasks: Mapping[str, Task], *, ask_hub: bool) -> None:
    """Refuse an encoder of known layers that cannot have what the settings ask for.

    Nothing is said of one that `check_encoder` says nothing of.
    """
    widened = cfg.encoder.tune == "full" and cfg.dendrites.control == "capacity"
    if not (cfg.train.packing or cfg.encoder.prefix_cache or widened):
        return
    model = _model(cfg.encoder, {name: task.outputs for name, task in tasks.items()}, ask_hub)
    if model is None:
        return
    if widened:
        parameters_per_unit(model.base)
    if cfg.train.packing:
        check_positions(model)
    if cfg.encoder.prefix_cache:
        frozen_layers(model.base)


def _model(cfg: Encoder, outputs: Mapping[str, int], ask_hub: bool) -> MultiTaskModel | None:
    """The model without its weights; None where its layers are not known yet."""
    if cfg.scratch.when == "always":
        return None
    location = locate(cfg.name)
    if location.origin == "hub" and (cfg.scratch.when == "offline" or not ask_hub):
        return None
    try:
        base = meta_base(location)
        encoder = add_lora(base, cfg.lora) if cfg.tune == "lora" else base
        with torch.device("meta"):
            return MultiTaskModel(encoder, outputs, "mean", torch.float32)
    except UserError:
        raise
    except Exception:
        return None  # a foreign configuration can break any constructor; loading says what is wrong


def slices(cfg: Config, table: TableLike, tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Columns to break figures down by; with experts the domain is always among them.

    Raises:
        UserError: the data have no such column.
    """
    further = table.frame.drop(columns=list(tasks))
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
