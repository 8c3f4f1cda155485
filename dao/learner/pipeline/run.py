"""One run from a table to its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import Tensor

from dao.learner.batches.batching import Examples
from dao.learner.batches.sampling import sampling_counts, sampling_line
from dao.learner.batches.token_cache import TokenCache
from dao.learner.batches.token_types import pairs_line
from dao.learner.batches.tokens import Tokens, cut_line
from dao.learner.console.report import model_card
from dao.learner.dendrites import dendritic
from dao.learner.dendrites.controls import arm_encoder
from dao.learner.dendrites.share import shares_of_sets
from dao.learner.encoder.find import hub_id
from dao.learner.encoder.scratch import BASE, Found, find_encoder, forget_start
from dao.learner.experts.domains import with_domains
from dao.learner.experts.routing import routing_figures
from dao.learner.experts.stages import fit_stages, steps_of_stages
from dao.learner.inference.predictor import DENDRITES, Predictor, predictor_of
from dao.learner.kinds import Task
from dao.learner.model.model import build
from dao.learner.model.prefix import cache_prefix
from dao.learner.model.saving import save_weights
from dao.learner.pipeline.machine import Machine, forget_machine, settle
from dao.learner.pipeline.preflight import domains, slices
from dao.learner.processes import ranks
from dao.learner.scoring.assessment import TableLike, assess
from dao.learner.scoring.scoring import labels_of, predict
from dao.learner.settings.config import Config
from dao.learner.settings.encoder_section import Encoder
from dao.learner.storage.files import csv_text, write_atomically, write_tensors
from dao.learner.storage.record import RunFolder, provenance
from dao.learner.training.loop import Fitted, Job, Progress, fit

__all__ = ["run"]


def run(
    cfg: Config,
    table: TableLike,
    tasks: Mapping[str, Task],
    ceilings: Mapping[str, Mapping[str, dict[str, Any]]],
    folder: RunFolder,
    progress: Progress,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, select, test, and leave a finished run folder.

    Of several ranks, all train and the first alone goes on: it saves, tests and reports.

    Args:
        cfg: the settings; `folder` holds the same.
        table: the data.
        tasks: fitted to the training rows, by name, in the order of `cfg.tasks`.
        ceilings: per split, the best reachable figures per task, where they are known.
        folder: created, and locked by this process.
        progress: told of every step and validation.
        resume: continue from the latest checkpoint.

    Returns:
        The content of metrics.json; nothing on ranks other than the first.
    """
    if resume:
        folder.check_same_data(table.report)
    folder.write("data.json", table.report)
    # Before training: an error in these settings should not wait for hours.
    columns = slices(cfg, table, tasks)
    codes = domains(cfg, table, tasks)
    machine = settle(cfg, folder, progress.note, resume=resume)
    device = machine.device
    outputs = {name: task.outputs for name, task in tasks.items()}
    cache = TokenCache(cfg.cache_folder / "tokens", progress.note)
    texts = table.rows("train")["text"].tolist()
    found = find_encoder(cfg, texts, folder.path, device, progress.note, resume=resume)
    settled = found.encoder.model_copy(update={"precision": machine.precision})
    encoder = arm_encoder(cfg.model_copy(update={"encoder": settled}), outputs)
    experts = cfg.experts if cfg.routed else None
    pairs = cfg.data.pairs
    built = build(encoder, outputs, device, cfg.seed, experts, pairs=pairs)
    predictor = predictor_of(*built, cache, pairs=pairs)
    model = predictor.model
    parameters = predictor.model.count()
    _tell_of_model(predictor, cfg, progress)
    train, validation = (predictor.examples(table.rows(s), tasks) for s in ("train", "validation"))
    cut = _tell_of_cut_texts(predictor, table, (train, validation), progress)
    train, validation = (
        with_domains(train, codes, "train"),
        with_domains(validation, codes, "validation"),
    )
    counts = sampling_counts(labels_of(tasks, train), cfg.train.sampling)
    progress.note(sampling_line(counts))
    cached: dict[str, Any] = {}
    if cfg.encoder.prefix_cache:
        place = cfg.cache_folder / "prefix"
        splits = train, validation
        with ranks.first_rank_first():
            (train, validation), spent = cache_prefix(
                model, splits, predictor.pad, place, progress.note
            )
        cached = {"prefix_cache": spent}
    line_limit = predictor.limit if cfg.train.packing else None
    names = table.rows("train")["id"].tolist()
    job = Job(
        predictor.model, tasks, train, validation, predictor.pad, cfg, folder, progress, line_limit,
        names,
    )  # fmt: skip
    fitted, staged = _fit(job, resume)
    if not ranks.is_first():
        return {}
    _save(fitted, predictor, BASE if found.made else hub_id(cfg.encoder.name), folder)
    dendritic.attach(fitted.model, fitted.description)
    dendritic.load(fitted.model, fitted.dendrites)
    report = fitted.report
    if report is not None:
        shares = dendritic.output_shares(
            fitted.model, lambda: predict(fitted.model, validation, predictor.pad)
        )
        sets = shares_of_sets([shares])
        report = {**report, "output_shares": shares, "output_shares_of_sets": sets}
        folder.write("dendrites.json", {**report, "twin": fitted.description})
    tasks = _tuned(tasks, predictor, table)
    folder.write("tasks.json", {name: task.to_dict() for name, task in tasks.items()})
    figures: dict[str, dict[str, Any]] = {}
    learnt = table.rows("train"), table.rows("validation")
    for split in ("validation", "test"):
        rows = table.rows(split)
        results = predictor(rows["text"].tolist())
        best = ceilings.get(split, {})
        parts = assess(results, tasks, rows, learnt, best, columns)
        for part, content in parts.items():
            figures.setdefault(part, {})[split] = content
        if split == "test":
            shown = predictor.text_columns(rows["text"].tolist())
            _save_predictions(
                folder, rows, tasks, results, shown, predictor.expert_columns(results)
            )
    figures |= _routed(cfg, predictor, table, tasks)
    if staged is not None:
        folder.write("experts.json", staged)
    metrics = {
        "name": cfg.data_name,
        "arm": cfg.arm,
        "seed": cfg.seed,
        "tasks": {name: task.described() for name, task in tasks.items()},
        **figures,
        "loss_weights": _first_and_last_weights(folder.rows("history.jsonl"), tasks),
        "dendrites": report,
        "experts": staged,
        "parameters": parameters,
        "training": {**_training(cfg, fitted, staged, folder), "sampling": counts, **cached},
        "data": table.report,
        "texts": cut,
        "files": folder.model_digests(),
        "provenance": {**provenance(device), **_compute(found, encoder, predictor, machine)},
    }
    write_atomically(folder.path / "README.md", model_card(cfg, metrics))
    folder.write("metrics.json", metrics)
    forget_start(folder.path)
    forget_machine(folder)
    if not cfg.train.keep_checkpoint:
        folder.remove_checkpoints()
        folder.remove_stage_weights()
    return metrics


def _tell_of_model(predictor: Predictor, cfg: Config, progress: Progress) -> None:
    """Say what the model is, and how it gets pairs of texts, where it does."""
    progress.note(predictor.model.describe())
    if cfg.data.pairs:
        typed = predictor.model.separator is not None
        progress.note(pairs_line(predictor.tokenizer, cfg.data.text, typed))


def _fit(job: Job, resume: bool) -> tuple[Fitted, dict[str, Any] | None]:
    """The fitted model; with experts, or in the arm beside them, what experts.json says as well."""
    if job.cfg.routed:
        return fit_stages(job, resume=resume)
    if not job.cfg.experts.names:
        return fit(job, resume=resume), None
    steps = steps_of_stages(job)
    total = sum(steps.values())
    fitted = fit(replace(job, steps=total), resume=resume)
    return fitted, {"control": job.cfg.experts.control, "steps": total, "steps_of_stages": steps}


def _tell_of_cut_texts(
    predictor: Predictor, table: TableLike, known: tuple[Examples, Examples], progress: Progress
) -> dict[str, Any]:
    """Count the texts that are longer than the token limit, before training; for the record."""
    test = predictor.examples(table.rows("test"), {})
    parts = {"train": known[0].ids, "validation": known[1].ids, "test": test.ids}
    cut = {split: ids.cut for split, ids in parts.items() if isinstance(ids, Tokens)}
    rows = {split: len(ids) for split, ids in parts.items()}
    if line := cut_line(cut, rows, predictor.limit, predictor.most):
        progress.note(line)
    return {"token_limit": predictor.limit, "encoder_takes": predictor.most, "cut": cut}


def _training(
    cfg: Config, fitted: Fitted, staged: Mapping[str, Any] | None, folder: RunFolder
) -> dict[str, Any]:
    """Steps and time; with experts those of all stages, though it is the last that is selected."""
    about = {"steps": fitted.steps, "seconds": fitted.seconds}
    skipped = folder.count("skipped.jsonl")
    if staged is not None and cfg.routed:
        stages = staged["stages"]
        about = {key: sum(stage[key] for stage in stages.values()) for key in about}
        skipped += sum(folder.stage(name).count("skipped.jsonl") for name in stages)
    early = None
    if fitted.planned is not None:
        early = {"after_step": fitted.steps, "of_steps": fitted.planned}
    return {
        "steps": about["steps"],
        "stopped_early": early,
        "selected_after_step": fitted.best_step,
        "restarted_after_steps": fitted.restarts,
        "seconds": round(about["seconds"], 1),
        "skipped_steps": skipped,
    }


def _routed(
    cfg: Config, predictor: Predictor, table: TableLike, tasks: Mapping[str, Task]
) -> dict[str, Any]:
    """What the router did on each split; nothing where there is none."""
    if not cfg.routed:
        return {}
    splits = ("validation", "test")
    return {"routing": {s: routing_figures(predictor, tasks, table.rows(s)) for s in splits}}


def _compute(
    found: Found, encoder: Encoder, predictor: Predictor, machine: Machine
) -> dict[str, Any]:
    """Which encoder in which precision it really was, and LoRA as this arm has it."""
    config = predictor.model.encoder.config
    return {
        "encoder": {
            "name": found.location.name,
            "origin": found.location.origin,
            "revision": getattr(config, "_commit_hash", None),
        },
        "scratch": found.made,
        "lora": encoder.lora.model_dump(mode="json") if encoder.tune == "lora" else None,
        "precision": predictor.model.precision,
        "attention": predictor.model.attention,
        "machines": list(machine.history),
    }


def _first_and_last_weights(
    history: Sequence[Mapping[str, Any]], tasks: Iterable[str]
) -> dict[str, dict[str, float]]:
    weights: dict[str, list[float]] = {
        task: [row["tasks"][task]["weight"] for row in history if task in row["tasks"]]
        for task in tasks
    }
    # Some aggregators of gradients have no weights.
    weights = {t: [w for w in found if w is not None] for t, found in weights.items()}
    return {t: {"first": w[0], "last": w[-1]} for t, w in weights.items() if w}


def _save(
    fitted: Fitted,
    predictor: Predictor,
    base: str,
    folder: RunFolder,
) -> None:
    save_weights(fitted.model, predictor.tokenizer, base, folder.path)
    if fitted.report is not None:
        write_tensors(folder.path / DENDRITES, fitted.dendrites)


def _tuned(tasks: Mapping[str, Task], predictor: Predictor, table: TableLike) -> dict[str, Task]:
    """The tasks with what they choose on the validation rows, such as thresholds."""
    rows = table.rows("validation")
    outputs = predictor(rows["text"].tolist())
    return {
        name: task.tuned(outputs[name], task.encode(rows[name].tolist()))
        for name, task in tasks.items()
    }


def _save_predictions(
    folder: RunFolder,
    rows: pd.DataFrame,
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    texts: Mapping[str, Sequence[Any]],
    experts: Mapping[str, list[Any]],
) -> None:
    columns: dict[str, Sequence[Any]] = {"id": rows["id"].tolist(), **texts}
    for name, task in tasks.items():
        targets = rows[name].tolist()
        columns[f"{name}_target"] = task.written(targets)
        columns |= task.predict(outputs[name])
        scores = task.scores_of_rows(outputs[name], task.encode(targets))
        columns[f"{name}_row_score"] = scores
    columns |= experts
    write_atomically(folder.path / "predictions.csv", csv_text(pd.DataFrame(columns)))
