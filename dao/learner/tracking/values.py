"""The rows of a run's logs as named numbers, for trackers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["of_settings", "of_step", "of_test", "of_validation"]

Values = dict[str, float]
OF_TASK = ("loss", "weight", "norm", "share")
OF_STEP = ("loss", "lr", "epoch", "tokens_per_s", "memory_mib")
UNUSUAL = re.compile(r"[^\w\-./ ]")
"""What MLflow refuses in a name."""


def of_step(row: Mapping[str, Any]) -> Values:
    """The numbers of a row of history.jsonl.

    Example:
        >>> row = {"step": 3, "loss": 0.5, "tasks": {"cls": {"loss": 0.4, "weight": None}}}
        >>> of_step(row)
        {'train/loss': 0.5, 'loss/cls': 0.4}
    """
    found = {f"train/{key}": row.get(key) for key in OF_STEP}
    for task, values in row["tasks"].items():
        found |= {f"{key}/{task}": values.get(key) for key in OF_TASK}
    found |= {f"router/{key}": value for key, value in row.get("router", {}).items()}
    return _finite(found)


def of_validation(row: Mapping[str, Any]) -> Values:
    """The numbers of a row of validation.jsonl; `dendrites/grown` is 1 where a set was added.

    Example:
        >>> row = {"score": 0.7, "grown": True, "metrics": {"cls": {"accuracy": 0.7}}}
        >>> of_validation(row)
        {'validation/score': 0.7, 'validation/cls.accuracy': 0.7, 'dendrites/grown': 1.0}
    """
    found = {"validation/score": row["score"], **_figures("validation", row["metrics"])}
    return _finite({**found, "dendrites/grown": float(row["grown"])})


def of_test(metrics: Mapping[str, Any]) -> Values:
    """The numbers of the test split in metrics.json.

    Example:
        >>> of_test({"splits": {"test": {"cls": {"accuracy": 0.7, "n": 9, "f1": None}}}})
        {'test/cls.accuracy': 0.7, 'test/cls.n': 9.0}
    """
    return _finite(_figures("test", metrics["splits"]["test"]))


def of_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str | float]:
    """The settings of a run by their dotted keys: numbers, and everything else as text.

    Example:
        >>> of_settings({"seed": 0, "train": {"lr": 0.1, "clip": None, "track": ["wandb"]}})
        {'seed': 0, 'train.lr': 0.1, 'train.clip': 'None', 'train.track': "['wandb']"}
    """
    found: dict[str, str | float] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= of_settings(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return found


def _figures(split: str, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{split}/{t}.{key}": v for t, own in figures.items() for key, v in own.items()}


def _finite(values: Mapping[str, Any]) -> Values:
    """The numbers among the values; charts have a gap where one is missing or not finite."""
    return {
        UNUSUAL.sub("_", name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
