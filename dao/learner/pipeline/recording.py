"""From a measured run to its finished folder; metrics.json comes last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from dao.learner.calibration.record import CALIBRATION
from dao.learner.console.report import model_card
from dao.learner.encoder.find import hub_id
from dao.learner.encoder.scratch import BASE, forget_start
from dao.learner.inference.predictor import DENDRITES
from dao.learner.kinds import Task
from dao.learner.kinds.recorded import described
from dao.learner.model.saving import save_weights
from dao.learner.pipeline.fit import Trained
from dao.learner.pipeline.machine import forget_machine
from dao.learner.pipeline.measure import Measured
from dao.learner.pipeline.prepare import Inputs, Prepared
from dao.learner.storage.files import csv_text, write_atomically, write_tensors
from dao.learner.storage.provenance import provenance
from dao.learner.storage.writing import RunRecord

__all__ = ["predictions", "record", "save_model", "training_facts"]


def save_model(prepared: Prepared, trained: Trained) -> None:
    """Write the weights, the tokenizer and the dendrites, before anything is measured.

    Args:
        prepared: of the run.
        trained: its selected model, whose dendrites are not attached yet.
    """
    made, path = prepared.found.made, prepared.inputs.folder.path
    base = BASE if made else hub_id(prepared.inputs.cfg.encoder.name)
    save_weights(trained.fitted.model, prepared.predictor.tokenizer, base, path)
    if trained.fitted.report is not None:
        write_tensors(path / DENDRITES, trained.fitted.dendrites)


def record(prepared: Prepared, trained: Trained, measured: Measured) -> dict[str, Any]:
    """Write everything beside the weights, and remove what only an unfinished run needs.

    Returns:
        The content of metrics.json.
    """
    inputs, folder = prepared.inputs, prepared.inputs.folder
    if measured.dendrites is not None:
        twin = trained.fitted.description
        folder.write("dendrites.json", {**measured.dendrites, "twin": twin})
    folder.write("tasks.json", {name: task.to_dict() for name, task in measured.tasks.items()})
    folder.write(CALIBRATION, measured.calibration.to_dict())
    _write_predictions(prepared, measured)
    if trained.experts is not None:
        folder.write("experts.json", trained.experts)
    metrics = _metrics(prepared, trained, measured)
    write_atomically(folder.path / "README.md", model_card(inputs.cfg, metrics))
    folder.write("metrics.json", metrics)
    _tidy(inputs, folder)
    return metrics


def _tidy(inputs: Inputs, folder: RunRecord) -> None:
    forget_start(folder.path)
    forget_machine(folder)
    if not inputs.cfg.train.keep_checkpoint:
        folder.remove_checkpoints()
        folder.remove_stage_weights()


def _metrics(prepared: Prepared, trained: Trained, measured: Measured) -> dict[str, Any]:
    cfg = prepared.inputs.cfg
    return {
        "name": cfg.data_name,
        "arm": cfg.arm,
        "seed": cfg.seed,
        **described(measured.tasks),
        **measured.figures,
        "loss_weights": trained.fitted.weights,
        "dendrites": measured.dendrites,
        "experts": trained.experts,
        "parameters": prepared.parameters,
        "training": {**training_facts(trained, routed=cfg.routed), **prepared.training},
        "data": prepared.inputs.table.report,
        "texts": prepared.texts,
        "files": prepared.inputs.folder.model_digests(),
        "provenance": {**provenance(prepared.machine.device), **_compute(prepared)},
    }


def training_facts(trained: Trained, *, routed: bool) -> dict[str, Any]:
    """Steps and time: with a router those of all stages, though the last alone is selected from.

    Args:
        trained: the selected model and how it came about.
        routed: whether training went in stages.
    """
    fitted = trained.fitted
    about = {"steps": fitted.steps, "seconds": fitted.seconds}
    if trained.experts is not None and routed:
        stages = trained.experts["stages"]
        about = {key: sum(stage[key] for stage in stages.values()) for key in about}
    early = None
    if fitted.planned is not None:
        early = {"after_step": fitted.steps, "of_steps": fitted.planned}
    return {
        "steps": about["steps"],
        "stopped_early": early,
        "selected_after_step": fitted.best_step,
        "restarted_after_steps": fitted.restarts,
        "growth_over_after_step": fitted.ended,
        "thrown_away_steps": fitted.thrown_away,
        "seconds": round(about["seconds"], 1),
        "skipped_steps": fitted.skipped,
    }


def _compute(prepared: Prepared) -> dict[str, Any]:
    """Which encoder in which precision it really was, and LoRA as this arm has it."""
    found, encoder, model = prepared.found, prepared.encoder, prepared.predictor.model
    return {
        "encoder": {
            "name": found.location.name,
            "origin": found.location.origin,
            "revision": getattr(model.encoder.config, "_commit_hash", None),
        },
        "scratch": found.made,
        "lora": encoder.lora.model_dump(mode="json") if encoder.tune == "lora" else None,
        "wider": prepared.wider,
        "precision": model.precision,
        "attention": model.attention,
        "machines": list(prepared.machine.history),
    }


def _write_predictions(prepared: Prepared, measured: Measured) -> None:
    rows, predictor = prepared.inputs.table.rows("test"), prepared.predictor
    shown = predictor.text_columns(rows["text"].tolist())
    experts = predictor.expert_columns(measured.test)
    found = predictions(rows, measured.tasks, measured.test, shown, experts)
    write_atomically(prepared.inputs.folder.path / "predictions.csv", csv_text(found))


def predictions(
    rows: pd.DataFrame,
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    texts: Mapping[str, Sequence[Any]],
    experts: Mapping[str, list[Any]],
) -> pd.DataFrame:
    """The content of predictions.csv: per row its texts, and per task target, answer and score.

    Args:
        rows: n labelled rows of a table.
        tasks: by name.
        outputs: task -> (n, outputs of the task).
        texts: columns with the texts of the rows.
        experts: columns with the experts' weights; none where there are no experts.
    """
    columns: dict[str, Sequence[Any]] = {"id": rows["id"].tolist(), **texts}
    for name, task in tasks.items():
        targets = rows[name].tolist()
        columns[f"{name}_target"] = task.written(targets)
        columns |= task.predict(outputs[name])
        scores = task.scores_of_rows(outputs[name], task.encode(targets))
        columns[f"{name}_row_score"] = scores
    return pd.DataFrame({**columns, **experts})
