"""What a server says of its run: the tasks with their figures on test, and what it learnt from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import dao
from dao.learner.calibration.told import reached
from dao.learner.data.reading.sources import is_hub_name
from dao.learner.encoder.find import hub_id
from dao.learner.inference.load import Model
from dao.learner.kinds import Task
from dao.learner.kinds.certainty.probable import Probable, rule_of
from dao.learner.kinds.recorded import Recorded, recorded_tasks
from dao.learner.scoring.plain_models import best_plain, not_beaten
from dao.learner.serving.answers import plain

__all__ = ["about"]

TESTED = "test"


def about(
    model: Model, engine: str, columns: list[str], coverage: float | None = None
) -> dict[str, Any]:
    """What `GET /about` answers: nothing in it names a folder of this machine.

    Args:
        model: Of the run.
        engine: What runs it.
        columns: In which a file has its texts.
        coverage: Of sets and intervals; None for neither.

    Raises:
        UserError: metrics.json or config.yaml of the run cannot be read; as `Model.covered`.
    """
    cfg, metrics = model.folder.config(), model.folder.read("metrics.json")
    recorded = recorded_tasks(metrics, cfg.tasks)
    sure = {}
    if coverage is not None:
        able = model.covered(coverage).tasks
        sure = {name: reached(metrics, name, coverage, engine) for name in able}
    return {
        "dao": dao.__version__,
        "name": metrics.get("name") or _names(cfg.data.sources) or cfg.arm,
        "arm": metrics["arm"],
        "seed": metrics["seed"],
        "engine": engine,
        "pairs": model.pairs,
        "text_columns": columns,
        "trained_on": _trained_on(metrics, cfg.data.sources),
        "encoder": _encoder(metrics, cfg.encoder.name),
        "tasks": {
            name: {**_task(task, recorded[name], metrics), "coverage": sure.get(name, "")}
            for name, task in model.tasks.items()
        },
    }


def _task(task: Task, recorded: Recorded, metrics: Mapping[str, Any]) -> dict[str, Any]:
    columns = list(task.predict(torch.zeros(1, task.outputs)))
    prefix = f"{task.name}_p_"
    classes = [column.removeprefix(prefix) for column in columns if column.startswith(prefix)]
    own = metrics["splits"].get(TESTED, {}).get(task.name, {})
    plainer = metrics.get("baselines", {}).get(TESTED, {}).get(task.name, {})
    return {
        "kind": recorded.kind,
        "column": recorded.column,
        "classes": classes,
        "separator": getattr(task, "separator", None),
        "threshold": task.scaled_threshold() if isinstance(task, Probable) else None,
        "rule": rule_of(task),
        "threshold_suits": "F1" if getattr(task, "chosen", False) else "",
        "targets": _targets(metrics, task.name),
        "tested_on": own.get("n", 0),
        "not_beaten": _not_beaten(task.name, recorded, own, plainer),
        "figures": [
            {
                "key": figure.key,
                "label": figure.label,
                "better": figure.better,
                "model": plain(own.get(figure.key)),
                "plain": {name: plain(row.get(figure.key)) for name, row in plainer.items()},
            }
            for figure in recorded.figures
            if figure.key in own
        ],
    }


def _not_beaten(
    name: str, task: Recorded, own: Mapping[str, Any], plainer: Mapping[str, Mapping[str, Any]]
) -> str:
    """The line of the run's report where a plain model is as good in the main figure."""
    best = best_plain(plainer, task.main.key, task.main.arrow)
    return not_beaten(name, task.main, own.get(task.main.key), best) if best else ""


def _targets(metrics: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Training rows per class, or the lowest, the mean and the highest of numbers."""
    found = metrics.get("data", {}).get("targets", {}).get(task, {})
    return {str(name): plain(value) for name, value in found.items()}


def _trained_on(metrics: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    data, training = metrics.get("data", {}), metrics.get("training", {})
    names = [part["source"] for part in data.get("sources", [])] or sources
    return {
        "sources": [_source(name) for name in names],
        "rows": data.get("rows", {}),
        "labelled": data.get("labelled", {}),
        "steps": training.get("steps"),
        "parameters": metrics.get("parameters", {}),
        "token_limit": metrics.get("texts", {}).get("token_limit"),
    }


def _names(sources: Sequence[str]) -> str:
    return ", ".join(_source(name) for name in sources)


def _source(name: str) -> str:
    r"""A source without its folder.

    Example:
        >>> _source("/data/my tables/a.csv"), _source("owner/name"), _source(r"C:\data\a.csv")
        ('a.csv', 'owner/name', 'a.csv')
    """
    return name if is_hub_name(name) else re.split(r"[\\/]", name.rstrip("\\/"))[-1]


def _encoder(metrics: Mapping[str, Any], name: str) -> str:
    made = metrics.get("provenance", {}).get("encoder", {})
    if metrics.get("provenance", {}).get("scratch"):
        return "from scratch"
    named = hub_id(made.get("name", name))
    folder = made.get("origin") == "folder" or Path(named).is_absolute() or named.count("/") > 1
    return re.split(r"[\\/]", named.rstrip("\\/"))[-1] if folder else named
