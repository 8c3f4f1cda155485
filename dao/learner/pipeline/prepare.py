"""From settings and data to a model, its rows as token ids, and the work that `fit` is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dao.learner.batches.batching import Examples
from dao.learner.batches.sampling import sampling_counts, sampling_line
from dao.learner.batches.token_cache import TokenCache
from dao.learner.batches.token_types import pairs_line
from dao.learner.batches.tokens import Tokens, cut_line
from dao.learner.dendrites.controls import added_units, arm_encoder
from dao.learner.encoder.scratch import Found, find_encoder
from dao.learner.experts.domains import with_domains
from dao.learner.inference.predictor import Predictor, predictor_of
from dao.learner.kinds import Task
from dao.learner.kinds.base import SPLITS
from dao.learner.model.model import build
from dao.learner.model.prefix import cache_prefix
from dao.learner.pipeline.copied import copied_growths
from dao.learner.pipeline.machine import Machine, settle
from dao.learner.pipeline.preflight import domains, slices
from dao.learner.processes import ranks
from dao.learner.scoring.assessment import TableLike
from dao.learner.scoring.scoring import labels_of
from dao.learner.settings.config import Config
from dao.learner.settings.dendrites_section import DendriteSettings
from dao.learner.settings.encoder_section import Encoder
from dao.learner.storage.writing import RunRecord
from dao.learner.training.loop import Job, Progress
from dao.learner.training.plan import Copied

__all__ = ["Inputs", "Prepared", "prepare"]


@dataclass(frozen=True)
class Inputs:
    """What a run is given.

    Attributes:
        cfg: the settings; `folder` holds the same.
        table: the data.
        tasks: fitted to the training rows, by name, in the order of `cfg.tasks`.
        ceilings: per split, the best reachable figures per task, where they are known.
        folder: created, and locked by this process.
        progress: told of every step and validation.
        resume: whether to continue from the latest checkpoint.
    """

    cfg: Config
    table: TableLike
    tasks: Mapping[str, Task]
    ceilings: Mapping[str, Mapping[str, dict[str, Any]]]
    folder: RunRecord
    progress: Progress
    resume: bool = False


@dataclass(frozen=True)
class Prepared:
    """A run that can begin to train.

    Attributes:
        inputs: what the run was given.
        machine: the device and the precision of the run.
        found: where the encoder came from.
        encoder: its settings as the arm has them, the precision decided.
        wider: units that the arm adds to each feed-forward block.
        predictor: the model with its tokenizer.
        ids: split -> the token ids of its rows, without targets.
        job: what `fit` is given.
        slices: columns to break the figures down by.
        parameters: how many there are and how many train, without dendrites.
        texts: the token limit, and how many texts of each split it cuts.
        training: what metrics.json says of the rows' sampling and of cached states.
    """

    inputs: Inputs
    machine: Machine
    found: Found
    encoder: Encoder
    wider: int
    predictor: Predictor
    ids: Mapping[str, Examples]
    job: Job
    slices: tuple[str, ...]
    parameters: Mapping[str, Any]
    texts: Mapping[str, Any]
    training: Mapping[str, Any]


def prepare(inputs: Inputs) -> Prepared:
    """Find the encoder, build the model, tokenise every split once, cache what is frozen.

    Raises:
        UserError: the data are not those that the run began with; slices or domains that the data
            do not have; an encoder that cannot be had or built; no room for cached states.
    """
    cfg, table, tasks, folder = inputs.cfg, inputs.table, inputs.tasks, inputs.folder
    if inputs.resume:
        folder.check_same_data(table.report)
    folder.write("data.json", table.report)
    # Before the encoder is loaded: an error in these settings should not wait.
    columns = slices(cfg, table, tasks)
    codes = domains(cfg, table, tasks)
    machine = settle(cfg, folder, inputs.progress.note, resume=inputs.resume)
    copied = copied_growths(cfg, table.report)
    found, (encoder, wider), predictor = _build(inputs, machine, copied)
    parameters = predictor.model.count()
    _tell_of_model(predictor, inputs)
    examples: Mapping[str, Examples] = {s: _examples(predictor, inputs, s) for s in SPLITS}
    texts = _cut_texts(predictor, examples, inputs.progress)
    counts = sampling_counts(labels_of(tasks, examples["train"]), cfg.train.sampling)
    inputs.progress.note(sampling_line(counts))
    examples, cached = _with_prefix(inputs, predictor, examples)
    ids = {split: replace(rows, targets={}) for split, rows in examples.items()}
    train, validation = (with_domains(examples[s], codes, s) for s in ("train", "validation"))
    job = Job(
        predictor.model, tasks, train, validation, predictor.pad, cfg, folder, inputs.progress,
        line_limit=predictor.limit if cfg.train.packing else None,
        names=table.rows("train")["id"].tolist(),
        copied=copied,
    )  # fmt: skip
    return Prepared(
        inputs=inputs,
        machine=machine,
        found=found,
        encoder=encoder,
        wider=wider,
        predictor=predictor,
        ids=ids,
        job=job,
        slices=columns,
        parameters=parameters,
        texts=texts,
        training={"sampling": counts, **cached},
    )


def _as_copied(dendrites: DendriteSettings, copied: Copied | None) -> DendriteSettings:
    """The dendrites' settings, with as many sets as the run has whose growths are copied."""
    if copied is None or dendrites.patience is None:
        return dendrites
    return dendrites.model_copy(update={"max_sets": len(copied.growths)})


def _build(
    inputs: Inputs, machine: Machine, copied: Copied | None
) -> tuple[Found, tuple[Encoder, int], Predictor]:
    """The encoder's origin, it and its widening as the arm has them, and the model."""
    cfg, note, device = inputs.cfg, inputs.progress.note, machine.device
    texts = inputs.table.rows("train")["text"].tolist()
    found = find_encoder(cfg, texts, inputs.folder.path, device, note, resume=inputs.resume)
    settled = found.encoder.model_copy(update={"precision": machine.precision})
    outputs = {name: task.outputs for name, task in inputs.tasks.items()}
    dendrites = _as_copied(cfg.dendrites, copied)
    arm = cfg.model_copy(update={"encoder": settled, "dendrites": dendrites})
    encoder, wider = arm_encoder(arm, outputs), added_units(arm, outputs)
    if wider:
        note(f"capacity: each feed-forward block has {wider:,} units more than the encoder's own")
    experts, pairs = cfg.experts if cfg.routed else None, cfg.data.pairs
    built = build(encoder, outputs, device, cfg.seed, experts, pairs=pairs, wider=wider)
    cache = TokenCache(cfg.cache_folder / "tokens", note)
    return found, (encoder, wider), predictor_of(*built, cache, pairs=pairs)


def _tell_of_model(predictor: Predictor, inputs: Inputs) -> None:
    """Say what the model is, and how it gets pairs of texts, where it does."""
    data, note = inputs.cfg.data, inputs.progress.note
    note(predictor.model.describe())
    if data.pairs:
        typed = predictor.model.separator is not None
        note(pairs_line(predictor.tokenizer, data.text, typed))


def _examples(predictor: Predictor, inputs: Inputs, split: str) -> Examples:
    """The rows of a split; those of test have no targets, since nothing is learnt from them."""
    tasks = {} if split == "test" else inputs.tasks
    return predictor.examples(inputs.table.rows(split), tasks)


def _cut_texts(
    predictor: Predictor, splits: Mapping[str, Examples], progress: Progress
) -> dict[str, Any]:
    """Count the texts that are longer than the token limit, before training; for the record."""
    cut = {s: rows.ids.cut for s, rows in splits.items() if isinstance(rows.ids, Tokens)}
    counts = {split: len(rows) for split, rows in splits.items()}
    if line := cut_line(cut, counts, predictor.limit, predictor.most):
        progress.note(line)
    return {"token_limit": predictor.limit, "encoder_takes": predictor.most, "cut": cut}


def _with_prefix(
    inputs: Inputs, predictor: Predictor, splits: Mapping[str, Examples]
) -> tuple[Mapping[str, Examples], dict[str, Any]]:
    """The rows of each split with the states of the frozen layers, where they are cached."""
    if not inputs.cfg.encoder.prefix_cache:
        return splits, {}
    place, note = inputs.cfg.cache_folder / "prefix", inputs.progress.note
    with ranks.first_rank_first():
        cached, spent = cache_prefix(
            predictor.model, [*splits.values()], predictor.pad, place, note
        )
    return dict(zip(splits, cached, strict=True)), {"prefix_cache": spent}
