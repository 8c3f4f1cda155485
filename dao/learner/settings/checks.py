"""Settings that exclude each other across sections; each check says what to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dao.learner.basics.wording import listed
from dao.learner.settings.dendrites_section import DendriteSettings
from dao.learner.settings.encoder_section import Encoder
from dao.learner.settings.experts_section import ExpertSettings
from dao.learner.settings.train_section import Train, parse_sampling
from dao.learner.settings.weighting_spec import accumulates, parse_weighting

__all__ = [
    "DOMAIN",
    "check_budget",
    "check_domain",
    "check_experts",
    "check_prefix_cache",
    "check_sampling",
    "check_select_weights",
    "check_tasks_named",
    "check_tuning",
    "check_weighting",
]

DOMAIN = "domain"
"""The one column of the table's own that may be a task as well."""
WHOLE_BUDGET = {
    "dendrites": "growths and restarts are at points of a fixed number of steps",
    "experts": "the arm with a single LoRA takes as many steps as all stages together",
}

NOT_BY_STEPS = {
    "step": "counts epochs: a budget of many short ones would end at a rate of almost 0",
    "plateau": "counts validations: stages have few of them, and the single LoRA has others",
}


def check_weighting(weighting: str, tasks: Sequence[str], accumulate: int) -> None:
    """Refuse a weighting that cannot be read, or that cannot accumulate gradients as asked.

    Raises:
        ValueError: naming the setting.
    """
    try:
        parse_weighting(weighting, tasks)
    except ValueError as error:
        raise ValueError(f"`weighting` {error}. Found {weighting!r}") from None
    if accumulate > 1 and not accumulates(weighting):
        raise ValueError(
            f"`weighting` should be dao, equal or fixed with train.accumulate above 1. Found "
            f"{weighting!r}, which needs the losses of all rows of a step at once. Set "
            f"train.accumulate to 1, and raise train.batch_size instead"
        )


def check_sampling(sampling: str) -> None:
    """Refuse a sampling that cannot be read.

    Raises:
        ValueError: naming the setting.
    """
    try:
        parse_sampling(sampling)
    except ValueError as error:
        raise ValueError(f"`train.sampling` {error}. Found {sampling!r}") from None


def check_tasks_named(by_key: Mapping[str, Mapping[str, float]], tasks: Iterable[str]) -> None:
    """Refuse settings by task that name a task which is not learned.

    Args:
        by_key: setting -> task -> value.
        tasks: those that are learned.

    Raises:
        ValueError: naming the setting and the tasks.
    """
    for key, values in by_key.items():
        if unknown := sorted(set(values) - set(tasks)):
            raise ValueError(
                f"`{key}` names {unknown}, which is not among `tasks`. These are "
                f"{listed(list(tasks))}. Name one of them"
            )


def check_select_weights(weights: Mapping[str, float]) -> None:
    """Refuse a task whose score would count nothing, or against the model.

    Raises:
        ValueError: naming the task and its weight.
    """
    for task, weight in weights.items():
        if not weight > 0:
            raise ValueError(
                f"`train.select_weights.{task}` should be above 0. Found {weight:g}. Give a weight "
                f"such as 0.1, or leave the setting out, which counts {task} with a weight of 1"
            )


def check_prefix_cache(encoder: Encoder, train: Train) -> None:
    """Refuse the cache of frozen layers where no layer is frozen, or with packed rows.

    Raises:
        ValueError: naming both settings.
    """
    if encoder.prefix_cache and encoder.lora.last_layers is None:
        raise ValueError(
            "`encoder.prefix_cache` should have frozen layers to cache. Found adapters in "
            "every layer. Set encoder.lora.last_layers, for example to half of the layers"
        )
    if encoder.prefix_cache and train.packing:
        raise ValueError(
            "`encoder.prefix_cache` and `train.packing` exclude each other: cached states are "
            "kept row by row. Leave one of them out"
        )


def check_domain(column: str | None, domain: str, experts: ExpertSettings) -> None:
    """Refuse the task `domain` where it is not the column of the domains, or beside experts.

    Args:
        column: of the task of this name; None where there is none.
        domain: `data.domain`.
        experts: which are chosen by the domain.

    Raises:
        ValueError: naming `tasks`.
    """
    if column is not None and (column != domain or experts.names):
        raise ValueError(
            f"`tasks` should use the name {DOMAIN} for the column of data.domain alone, and not "
            f"beside experts, which are chosen by it. Found the column {column!r}. Choose another "
            f"name"
        )


def check_tuning(encoder: Encoder, dendrites: DendriteSettings) -> None:
    """Refuse dendrites, quantisation or a frozen random encoder that `encoder.tune` excludes.

    Raises:
        ValueError: naming both settings.
    """
    if encoder.tune == "full":
        if encoder.quantize != "none" or encoder.prefix_cache:
            raise ValueError(
                "`encoder.tune=full` should train ordinary weights of every layer. Found "
                "`quantize` or `prefix_cache`, which freeze some. Leave them out, or tune=lora"
            )
        if dendrites.enabled and dendrites.where not in ("linear", "heads"):
            raise ValueError(
                "`encoder.tune=full` leaves no LoRA to put dendrites on. Found "
                f"where={dendrites.where!r}. Set dendrites.where to linear or heads"
            )
        return
    scratch = encoder.scratch
    if scratch.when == "always" and not scratch.pretrain_epochs:
        raise ValueError(
            "`encoder.tune=lora` should adapt weights that have learnt something. Found "
            "encoder.scratch.when=always without pretrain_epochs, which leaves the frozen weights "
            "random. Set encoder.tune=full, or encoder.scratch.pretrain_epochs to 1 or more"
        )
    if dendrites.where == "linear":
        raise ValueError(
            "`dendrites.where=linear` should find trained linear layers. Found a frozen encoder: "
            "each dendrite would copy frozen weights, 840 million of them for Phi-2, 1.7 GB in "
            "bf16. Set encoder.tune=full for a small encoder, or dendrites.where=lora_B+heads"
        )


def check_experts(encoder: Encoder, train: Train, dendrites: DendriteSettings) -> None:
    """Refuse what cannot be mixed row by row, where there are experts.

    Raises:
        ValueError: naming what it is.
    """
    found = {
        "encoder.tune=full, which has no LoRA": encoder.tune == "full",
        "encoder.prefix_cache": encoder.prefix_cache,
        "train.packing, where rows share a line": train.packing,
        "dendrites": dendrites.enabled,
    }
    for what, switched_on in found.items():
        if switched_on:
            raise ValueError(
                f"`experts` should be LoRA adapters that are mixed row by row. Found {what}. Leave "
                f"one of them out"
            )


def check_budget(train: Train, dendrites: DendriteSettings, experts: ExpertSettings) -> None:
    """Refuse a number of steps, or a schedule, that does not fit what is trained.

    Raises:
        ValueError: `train.early_stopping` comes with dendrites or experts, or experts come with a
            schedule that counts epochs or validations.
    """
    if train.early_stopping is not None:
        asked = {"dendrites": dendrites.enabled, "experts": bool(experts.names)}
        for what in (what for what, switched_on in asked.items() if switched_on):
            raise ValueError(
                f"`train.early_stopping` should be left out with {what}: {WHOLE_BUDGET[what]}. "
                f"Found {train.early_stopping}. Leave one of the two out"
            )
    if experts.names and (why := NOT_BY_STEPS.get(train.schedule)):
        raise ValueError(
            f"`train.schedule` should fall with the steps of a stage, with experts and with the "
            f"single LoRA beside them. Found {train.schedule}, which {why}. Set train.schedule to "
            f"linear, cosine or constant"
        )
