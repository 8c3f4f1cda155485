"""A run with experts, in stages: each alone on its domain, then the router, then all together."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.batches.batching import collate
from dao.learner.experts.domains import rows_of
from dao.learner.experts.moved import (
    HEADS,
    ROUTER,
    Digests,
    check_all_moved,
    check_frozen,
    count_moved,
    part_digests,
    part_sizes,
)
from dao.learner.experts.routing import routed_right
from dao.learner.model.experts import EXPERTS, Experts, train_only
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.router import check_varies
from dao.learner.processes import ranks
from dao.learner.scoring.scoring import labels_of, predict
from dao.learner.settings.config import Config
from dao.learner.settings.decisive import check_settings, decisive
from dao.learner.storage.checkpoint import check_fit
from dao.learner.storage.files import read_tensors, write_tensors
from dao.learner.storage.record import STAGE, STAGE_WEIGHTS
from dao.learner.training.loop import ROW_EXPERT, Fitted, Job, Progress, fit
from dao.learner.training.plan import make_plan

__all__ = ["check_one_process", "fit_stages", "steps_of_stages"]

JOINT = "joint"
GLANCES = 5  # validations of the warm-up, in which nothing is selected
PROBES = 32  # texts that the router's input is compared on


@dataclass(frozen=True)
class _Stage:
    """One `fit`: what trains in it, beside the heads, and on what.

    Attributes:
        experts: that train.
        router: whether it trains, and mixes; otherwise the one expert acts alone.
        job: the work, in a folder of its own.
    """

    name: str
    experts: tuple[str, ...]
    router: bool
    job: Job

    @property
    def cfg(self) -> Config:
        return self.job.cfg


def fit_stages(
    job: Job, *, resume: bool = False
) -> tuple[Fitted, dict[str, Any], dict[str, Tensor]]:
    """Train experts, router and heads.

    Returns:
        The selected model, whose steps are those of the last stage, while seconds and skipped
        steps are those of all; the content of experts.json; the outputs for the validation rows.

    Every expert starts from the same heads and trains its own; the router's warm-up begins with
    the mean of those that trained, so that no expert comes first. Heads train in every stage. In
    the warm-up the last weights are taken, elsewhere those that validate best.

    Args:
        job: a model with experts, rows with `ROW_EXPERT` among their targets, and the run's folder,
            where the last stage goes; the others go into `stages/NAME/` below it.
        resume: pass over finished stages and continue in the one that was stopped; equal to the
            bit to never having stopped.

    Raises:
        UserError: as `fit`; the router's input does not depend on the text; an expert's tensor did
            not move in the last stage.
        RuntimeError: something that was frozen moved.
    """
    model = job.model
    assert model.experts is not None
    _check_input(job)
    fresh = _copy(model.heads.state_dict())
    records, ends = {}, []
    stages = _alone(job)
    for number, stage in enumerate(stages, start=1):
        model.heads.load_state_dict(fresh)
        job.progress.note(
            f"stage 1, expert {number} of {len(stages)}: {stage.name} alone, on "
            f"{len(stage.job.train)} rows"
        )
        records[stage.name] = _finished(stage, resume) or _train(stage, resume)[1]
        ends.append(_copy(model.heads.state_dict()))
    model.heads.load_state_dict(_mean_heads(fresh, stages, ends))
    warm_up = _warm_up(job)
    job.progress.note(f"stage 2: the router and the heads, for {warm_up.job.steps} steps")
    records[ROUTER] = _finished(warm_up, resume) or _train(warm_up, resume)[1]
    job.progress.note("stage 3: experts, router and heads together")
    last = replace(job, router=True, progress=_progress(job, JOINT))
    joint = _Stage(JOINT, model.experts.names, True, last)
    fitted, records[JOINT], outputs = _train(joint, resume)
    seconds = sum(record["seconds"] for record in records.values())
    before = sum(job.folder.stage(name).count("skipped.jsonl") for name in records)
    fitted = replace(fitted, seconds=seconds, skipped=fitted.skipped + before)
    return fitted, {**_facts(job), "stages": records}, outputs


def check_one_process() -> None:
    """Refuse to train experts in several processes.

    Raises:
        UserError: this is one of several.
    """
    if ranks.several():
        raise UserError(
            "`experts` should train in one process. Found several. Start it without torchrun."
        )


def steps_of_stages(job: Job) -> dict[str, int]:
    """Optimizer steps of every stage, by its name, for the same rows and settings."""
    names = job.cfg.experts.names
    steps = {}
    for number, name in enumerate(names):
        own = rows_of(job.train, number)[0]
        labels = labels_of(job.tasks, own)
        steps[name] = make_plan(own.lengths, _stage_one(job.cfg), labels=labels).total
    labels = labels_of(job.tasks, job.train)
    joint = make_plan(job.train.lengths, job.cfg, labels=labels).total
    return {**steps, ROUTER: job.cfg.experts.router_warmup_steps, JOINT: joint}


def _progress(job: Job, stage: str) -> Progress:
    """The progress of a stage, which knows the steps of the stages before it."""
    steps = steps_of_stages(job)
    before = sum(list(steps.values())[: list(steps).index(stage)])
    return job.progress.of_stage("" if stage == JOINT else stage, before)


def _check_input(job: Job) -> None:
    model, rows = job.model, range(min(PROBES, len(job.train)))
    assert model.experts is not None
    batch = collate(job.train, rows, job.pad, model.device)
    texts = [tuple(job.train.ids[row]) for row in rows]
    features = model.router_input(batch.input_ids, batch.attention_mask)
    check_varies(features, model.experts.reads, texts)


# -- the stages ----------------------------------------------------------------------------------


def _stage_one(cfg: Config) -> Config:
    train = cfg.train.model_copy(update={"epochs": cfg.experts.domain_epochs})
    return cfg.model_copy(update={"train": train})


def _alone(job: Job) -> list[_Stage]:
    stages = []
    for number, name in enumerate(job.cfg.experts.names):
        train, rows = rows_of(job.train, number)
        own = replace(
            job,
            train=train,
            validation=rows_of(job.validation, number)[0],
            cfg=_stage_one(job.cfg),
            folder=job.folder.stage(name),
            progress=_progress(job, name),
            names=[job.names[row] for row in rows] if job.names else (),
        )
        stages.append(_Stage(name, (name,), False, own))
    return stages


def _mean_heads(
    fresh: Mapping[str, Tensor], stages: Sequence[_Stage], ends: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The mean of the heads after stage 1: of each task, over the domains that have labels of it.

    Args:
        fresh: tensors of the heads before, named task first.
        stages: one for each expert.
        ends: tensors of the heads after each of them.
    """
    mean = dict(fresh)
    for key in fresh:
        task = key.partition(".")[0]
        taught = [
            end[key]
            for stage, end in zip(stages, ends, strict=True)
            if stage.job.tasks[task].labelled(stage.job.train.targets[task]).any()
        ]
        if taught:
            mean[key] = torch.stack(taught).mean(0)
    return mean


def _warm_up(job: Job) -> _Stage:
    own = replace(
        job,
        folder=job.folder.stage(ROUTER),
        progress=_progress(job, ROUTER),
        steps=job.cfg.experts.router_warmup_steps,
        validations=GLANCES,
        selects=False,
        router=True,
    )
    return _Stage(ROUTER, (), True, own)


def _set(stage: _Stage) -> Experts:
    model = stage.job.model
    assert model.experts is not None
    model.experts.alone = None if stage.router else stage.name
    train_only(model.encoder, stage.experts, model.experts, router=stage.router)
    return model.experts


def _train(stage: _Stage, resume: bool) -> tuple[Fitted, dict[str, Any], dict[str, Tensor]]:
    """What `fit` gives, the record of the stage, and with a router the validation outputs."""
    experts, job, folder = _set(stage), stage.job, stage.job.folder
    before = part_digests(job.model)
    goes_on = resume and folder.has_checkpoint
    if not goes_on:
        if stage.name != JOINT:
            shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.rewind(0)
    try:
        fitted = fit(job, resume=goes_on)
    finally:
        experts.alone = None
    outputs = predict(job.model, job.validation, job.pad) if stage.router else {}
    record = {
        "rows": len(job.train),
        "steps": fitted.steps,
        "selected_after_step": fitted.best_step,
        "seconds": round(fitted.seconds, 1),
        "moved": _moved(stage, before),
        "validation": _routing(job, outputs[EXPERTS]) if stage.router else None,
    }
    if stage.name != JOINT:
        # The mark of being finished comes last.
        write_tensors(folder.path / STAGE_WEIGHTS, _trainable(job.model))
        folder.write(STAGE, {**record, "settings": decisive(stage.cfg)})
        folder.remove_checkpoints()
    return fitted, record, outputs


def _finished(stage: _Stage, resume: bool) -> dict[str, Any] | None:
    """The record of a stage that came to its end, with its weights in the model; None if not."""
    folder = stage.job.folder
    if not (resume and (folder.path / STAGE).is_file()):
        return None
    record = folder.read(STAGE, "settings", "moved")
    check_settings(record.pop("settings"), decisive(stage.cfg))
    experts = _set(stage)
    place, wanted = folder.path / STAGE_WEIGHTS, _trainable(stage.job.model)
    found = read_tensors(place)
    check_fit(found, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, place)
    with torch.no_grad():
        for name, tensor in found.items():
            wanted[name].copy_(tensor)
    experts.alone = None
    folder.remove_checkpoints()  # a kill may have left one
    return record


def _trainable(model: MultiTaskModel) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _moved(stage: _Stage, before: Digests) -> dict[str, dict[str, int]]:
    """What moved; refused where it should not have, or did not where it should."""
    training = {*stage.experts, HEADS, *([ROUTER] if stage.router else [])}
    moved = count_moved(before, part_digests(stage.job.model))
    check_frozen(moved, training, stage.name)
    if stage.name == JOINT:
        check_all_moved(moved, stage.experts)
    return moved


def _routing(job: Job, weights: Tensor) -> dict[str, Any]:
    return routed_right(weights, job.validation.targets[ROW_EXPERT], job.cfg.experts.names)


def _facts(job: Job) -> dict[str, Any]:
    return {
        "names": list(job.cfg.experts.names),
        "parameters": part_sizes(job.model),
        "heads": "each expert's own in stage 1, from the same start; then the mean of "
        "those that trained, and trained",
    }
