"""Run folders as train.py leaves them, made up, so that what is in them is known."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.learner.experiment.arms import KNOWN, known_arms
from dao.learner.kinds import Task
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.regression import Regression
from dao.learner.settings.config import load_config

ROWS = 40
CLASSES = ("negative", "positive")
SPREAD = np.sqrt([0.5, 1.5] * (ROWS // 2))  # of the errors, with a mean square of 1
Make = Callable[..., Path]


def fabricate(
    path: Path, seed: int = 0, *, right: int = 30, error: float = 0.2, shift: int = 0,
    set: Sequence[str] = (), flags: dict[str, Any] | None = None, targets: Sequence[str] = (),
    validations: int = 4, steps: int = 18, restarts: Sequence[int] = (9,), batch: str = "ab",
    dendrites: dict[str, Any] | None = None, rare: float = 0.3, positive: str = "positive",
    score: float | None = None, **metrics: Any,
) -> Path:  # fmt: skip
    """A finished run: `right` of 40 test rows, from row `shift`, and an MSE of error squared.

    `rare` is said to be the F1 of `positive`; it is of no account unless `set` selects by it.
    `score` is that of the last validation.
    """
    cfg = load_config(overrides=set, flags={**(flags or {}), "seed": seed, "output": str(path)})
    labels = list(targets) or [CLASSES[i % 2] for i in range(ROWS)]
    hits = [(i - shift) % ROWS < right for i in range(ROWS)]
    guesses = [t if hit else CLASSES[t == CLASSES[0]] for t, hit in zip(labels, hits, strict=True)]
    scores = np.linspace(-1, 1, ROWS)
    columns: dict[str, Any] = {"id": range(ROWS), "text": [f"headline, {i}" for i in range(ROWS)]}
    test = {}
    if "cls" in cfg.tasks:
        columns |= {
            "cls_target": labels,
            "cls": guesses,
            "cls_row_score": [int(hit) for hit in hits],
        }
        test["cls"] = {"accuracy": right / ROWS, "macro_f1": right / ROWS - 0.01, "rare_f1": rare}
    if "reg" in cfg.tasks:
        columns |= {"reg_target": scores, "reg": scores + error * SPREAD}
        columns["reg_row_score"] = (error * SPREAD) ** 2
        test["reg"] = {"mse": error**2, "r2": 1 - error**2 / scores.var()}
    path.mkdir(parents=True)
    made: dict[str, Task] = {
        "cls": Classification(
            "cls", "label", CLASSES, positive=positive,
            select_by=getattr(cfg.tasks.get("cls"), "select_by", ""),
        ),
        "reg": Regression("reg", "score", 0.0, 1.0),
    }  # fmt: skip
    (path / "config.yaml").write_text(cfg.to_yaml())
    with (path / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*columns], *zip(*columns.values(), strict=True)])
    rows = [json.dumps({"step": i, "metrics": {}}) for i in range(validations)]
    if score is not None:
        rows[-1] = json.dumps({"step": steps, "score": score, "metrics": {}})
    (path / "validation.jsonl").write_text("\n".join(rows) + "\n")
    (path / "history.jsonl").write_text(
        "".join(
            json.dumps({"step": i, "batch": f"{batch}{seed}{i}", "tasks": {}}) + "\n"
            for i in range(steps)
        )
    )
    plain = {
        "cls": {"majority class": {"accuracy": 0.5, "rare_f1": 0.0}},
        "reg": {"mean predictor": {"mse": 0.35}},
    }
    content = {
        "name": "made-up",
        "tasks": {name: made[name].described() for name in cfg.tasks},
        "splits": {"test": test},
        "slices": {"test": {}},
        "baselines": {"test": {task: plain[task] for task in cfg.tasks}},
        "best_reachable": {"test": {}},
        "dendrites": dendrites,
        "parameters": {"trainable": 1000},
        "training": {
            "steps": steps,
            "selected_after_step": steps,
            "restarted_after_steps": list(restarts),
            "seconds": 1.5,
        },
        "data": {
            "fingerprint": "-".join(cfg.tasks),
            "sources": [{"source": "x", "sha256": "1"}],
            "labelled": {task: {"train": 100, "test": ROWS} for task in cfg.tasks},
        },
        "provenance": {"encoder": {"name": "e"}, "precision": "fp32", "packages": {}},
    }
    for dotted, value in metrics.items():
        part, key = dotted.split("__")
        content[part][key] = value
    (path / "metrics.json").write_text(json.dumps(content))
    return path


def fabricate_arm(folder: Path, arm: str, seed: int, **about: Any) -> Path:
    """A run of a known arm, where the experiment keeps it."""
    own = {**KNOWN, **known_arms(("cls", "reg"))}[arm]
    return fabricate(folder / arm / f"seed={seed}", seed, flags=own, **about)


@pytest.fixture(scope="session")
def make_run() -> Make:
    return fabricate


@pytest.fixture(scope="session")
def make_arm() -> Make:
    return fabricate_arm
