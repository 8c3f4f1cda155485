"""One run from a table to its record; and a finished run back into a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dao.errors import UserError
from dao.learner import dendritic
from dao.learner.batching import Examples, pad_id, tokenize
from dao.learner.config import Config
from dao.learner.loop import Fitted, Progress, fit
from dao.learner.model import MultiTaskModel, build, load_weights, read_tensors, save_weights
from dao.learner.record import RunFolder, provenance
from dao.learner.report import model_card
from dao.learner.scoring import TaskLike, baselines, breakdown, measure, predict

__all__ = ["Predictor", "pick_device", "reload", "run"]

DENDRITES = "dendrites.safetensors"
MAX_SLICES = 12


@dataclass(frozen=True)
class Predictor:
    """A model with its tokenizer: texts in, outputs per task out."""

    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    limit: int

    def examples(self, frame: pd.DataFrame, tasks: Mapping[str, TaskLike]) -> Examples:
        """Token ids and encoded targets of a table's rows."""
        ids = tokenize(frame["text"].tolist(), self.tokenizer, self.limit)
        return Examples(ids, _targets(frame, tasks))

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Outputs per task, (n, outputs of the task), in the order of the texts."""
        ids = tokenize(texts, self.tokenizer, self.limit)
        return predict(self.model, Examples(ids, {}), pad_id(self.tokenizer))

    def table(self, texts: Sequence[str], tasks: Mapping[str, Any]) -> pd.DataFrame:
        """A row per text: the text, then what each task makes of it."""
        outputs = self(texts)
        columns: dict[str, Sequence[Any]] = {"text": texts}
        for name, task in tasks.items():
            columns |= task.predict(outputs[name])
        return pd.DataFrame(columns)


def run(
    cfg: Config,
    table: Any,  # noqa: ANN401
    tasks: Mapping[str, Any],
    ceilings: Mapping[str, dict[str, Any]],
    folder: RunFolder,
    progress: Progress,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, select, test, and leave a finished run folder.

    Args:
        cfg: the settings; `folder` holds the same.
        table: `frame` (id, text, split, a column per task) and `report`, as `tasks.data` makes it.
        tasks: fitted to the training rows, by name, in the order of `cfg.tasks`.
        ceilings: best reachable figures per task on the test split, where they are known.
        folder: created.
        progress: told of every step and validation.
        resume: continue from the latest checkpoint.

    Returns:
        The content of metrics.json.
    """
    if resume:
        folder.check_same_data(table.report)
    folder.write("data.json", table.report)
    test = rows_of(table, "test")
    slices_of(cfg, test)  # an error in the settings should show before hours of training
    device = pick_device(cfg.device)
    outputs = {name: task.outputs for name, task in tasks.items()}
    model, tokenizer, limit = build(cfg.encoder, outputs, device, cfg.seed)
    predictor = Predictor(model, tokenizer, limit)
    train, validation = (
        predictor.examples(rows_of(table, split), tasks) for split in ("train", "validation")
    )
    parameters = _count(model)
    pad = pad_id(tokenizer)
    fitted = fit(model, tasks, train, validation, pad, cfg, folder, progress, resume=resume)
    _save(fitted, tokenizer, cfg, folder, tasks)
    dendritic.attach(fitted.model, fitted.description)
    dendritic.load(fitted.model, fitted.dendrites)
    test_outputs = predictor(test["text"].tolist())
    figures = assess(cfg, test_outputs, tasks, table, table, ceilings)
    _save_predictions(folder, test, tasks, test_outputs)
    metrics = {
        "name": folder.path.name,
        "arm": cfg.arm,
        "seed": cfg.seed,
        "headline": {name: task.headline for name, task in tasks.items()},
        **figures,
        "splits": {"validation": fitted.validation, **figures["splits"]},
        "loss_weights": _first_and_last_weights(folder.rows("history.jsonl"), tasks),
        "dendrites": fitted.report,
        "parameters": parameters,
        "training": {
            "steps": fitted.steps,
            "selected_after_step": fitted.best_step,
            "seconds": round(fitted.seconds, 1),
        },
        "data": table.report,
        "provenance": provenance(device),
    }
    (folder.path / "README.md").write_text(model_card(cfg, metrics), encoding="utf-8")
    if not cfg.train.keep_checkpoints:
        folder.remove_checkpoints()
    folder.write("metrics.json", metrics)
    return metrics


def assess(
    cfg: Config,
    outputs: Mapping[str, Tensor],
    tasks: Mapping[str, Any],
    trained: Any,  # noqa: ANN401
    table: Any,  # noqa: ANN401
    ceilings: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Figures on the test rows of `table`: the model's, the baselines', the breakdowns.

    Args:
        cfg: the run's settings.
        outputs: the model's, task -> (n, outputs of the task), for the test rows of `table`.
        tasks: those to measure, by name.
        trained: the table whose training rows the baselines learn from; None for no baselines.
        table: the table whose test rows are measured.
        ceilings: best reachable figures per task, where they are known.

    Returns:
        `splits`, `baselines`, `best_reachable` and `slices`, each with the one key `test`.
    """
    frame = rows_of(table, "test")
    targets = _targets(frame, tasks)
    plain = {}
    if trained is not None:
        known = rows_of(trained, "train")
        learnt = known["text"].tolist(), _targets(known, tasks)
        plain = baselines(tasks, learnt, (frame["text"].tolist(), targets))
    return {
        "splits": {"test": measure(tasks, outputs, targets)},
        "baselines": {"test": plain},
        "best_reachable": {"test": dict(ceilings)},
        "slices": {"test": breakdown(tasks, outputs, targets, slices_of(cfg, frame))},
    }


def _targets(frame: pd.DataFrame, tasks: Mapping[str, TaskLike]) -> dict[str, Tensor]:
    return {name: task.encode(frame[name].tolist()) for name, task in tasks.items()}


def rows_of(table: Any, split: str) -> pd.DataFrame:  # noqa: ANN401
    """The rows of one split."""
    return table.frame[table.frame["split"] == split]


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU if there is one.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"`device` should be one of this machine. Found {name!r}: {reason}"
        ) from None
    return device


def reload(folder: RunFolder, tasks: Mapping[str, TaskLike], device: torch.device) -> Predictor:
    """The selected model of a finished run; predictions are those it was tested with."""
    cfg = folder.config()
    outputs = {name: task.outputs for name, task in tasks.items()}
    model, tokenizer, limit = build(cfg.encoder, outputs, device, cfg.seed)
    load_weights(model, folder.path)
    if cfg.dendrites.enabled:
        dendritic.attach(model, folder.read("dendrites.json")["twin"])
        dendritic.load(model, read_tensors(folder.path / DENDRITES))
    return Predictor(model.to(device), tokenizer, limit)


def slices_of(cfg: Config, frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns to break the figures down by."""
    fixed = {
        "id",
        "text",
        "split",
        *cfg.tasks,
        *(f"clean_{c}" for c in (cfg.data.cls, cfg.data.reg)),
    }
    chosen = cfg.data.slices
    if chosen is None:
        others = [c for c in frame.columns if c not in fixed]
        chosen = tuple(c for c in others if 2 <= frame[c].nunique() <= MAX_SLICES)
    missing = [c for c in chosen if c not in frame]
    if missing:
        raise UserError(f"`data.slices` should name columns of the data. Found {missing[0]!r}.")
    return {c: [None if pd.isna(v) else v for v in frame[c]] for c in chosen}


def _count(model: MultiTaskModel) -> dict[str, int]:
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"total": sum(n for n, _ in counts), "trainable": sum(n for n, t in counts if t)}


def _first_and_last_weights(
    history: Sequence[Mapping[str, Any]], tasks: Iterable[str]
) -> dict[str, dict[str, float]]:
    weights: dict[str, list[float]] = {
        task: [row["tasks"][task]["weight"] for row in history if task in row["tasks"]]
        for task in tasks
    }
    return {t: {"first": w[0], "last": w[-1]} for t, w in weights.items() if w}


def _save(
    fitted: Fitted,
    tokenizer: PreTrainedTokenizerBase,
    cfg: Config,
    folder: RunFolder,
    tasks: Mapping[str, Any],
) -> None:
    save_weights(fitted.model, tokenizer, cfg.encoder.name, folder.path)
    if fitted.report is not None:
        save_file(fitted.dendrites, folder.path / DENDRITES)
        folder.write("dendrites.json", {**fitted.report, "twin": fitted.description})
    folder.write("tasks.json", {name: task.to_dict() for name, task in tasks.items()})


def _save_predictions(
    folder: RunFolder,
    frame: pd.DataFrame,
    tasks: Mapping[str, Any],
    outputs: Mapping[str, Tensor],
) -> None:
    columns: dict[str, list[Any]] = {"id": frame["id"].tolist(), "text": frame["text"].tolist()}
    for name, task in tasks.items():
        columns[f"{name}_target"] = frame[name].tolist()
        columns |= task.predict(outputs[name])
    pd.DataFrame(columns).to_csv(folder.path / "predictions.csv", index=False)
