"""The finished runs of an experiment's folder, as its report reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

__all__ = ["ARMS", "Run", "Runs", "flat", "label", "read_runs", "without_folders"]

# Every arm of the design, in the order in which all tables and figures show them.
ARMS = ("base", "dao", "dendrites", "dao+dendrites", "sham", "capacity", "cls", "reg")
LABELS = {"cls": "cls alone", "reg": "reg alone"}
FOLDER = re.compile(r"(?:(?<=^)|(?<=[\s=,'\"(\[]))(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s]+[\\/])*")


@dataclass(frozen=True)
class Run:
    """What one run left behind; parts that are not there are empty."""

    arm: str
    seed: int
    path: Path
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    predictions: pd.DataFrame

    @property
    def dendrites(self) -> Mapping[str, Any]:
        """The record of the dendrites; empty where none grew."""
        return self.metrics.get("dendrites") or {}


Runs = Mapping[str, Mapping[int, Run]]


def read_runs(folder: Path, arms: Iterable[str], seeds: Iterable[int]) -> dict[str, dict[int, Run]]:
    """Read the finished runs in `folder/ARM/seed=N/`.

    Args:
        folder: the experiment's.
        arms: names of the arms to read.
        seeds: numbers of the seeds to read.

    Returns:
        By arm and seed; only arms that have a finished run.
    """
    found: dict[str, dict[int, Run]] = {}
    wanted = list(seeds)
    for arm in arms:
        places = {seed: folder / arm / f"seed={seed}" for seed in wanted}
        finished = {s: p for s, p in places.items() if (p / "metrics.json").is_file()}
        if finished:
            found[arm] = {seed: _read(arm, seed, path) for seed, path in finished.items()}
    return found


def _read(arm: str, seed: int, path: Path) -> Run:
    config, predictions = path / "config.yaml", path / "predictions.csv"
    return Run(
        arm,
        seed,
        path,
        metrics=json.loads((path / "metrics.json").read_text(encoding="utf-8")),
        config=yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {},
        history=_rows(path / "history.jsonl"),
        validation=_rows(path / "validation.jsonl"),
        # As text: a class may be called "nan" or "1".
        predictions=(
            pd.read_csv(predictions, dtype=str, keep_default_na=False)
            if predictions.is_file()
            else pd.DataFrame()
        ),
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def label(arm: str) -> str:
    """What readers see in place of an arm's folder name."""
    return LABELS.get(arm, arm)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names.

    >>> flat({"train": {"lr": 0.1}, "seed": 0})
    {'train.lr': 0.1, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def without_folders(text: str) -> str:
    """Leave the folders of absolute paths out: they say where, not what.

    >>> without_folders("rows of /home/someone/data/a.csv, owner/name")
    'rows of a.csv, owner/name'
    """
    return FOLDER.sub("", text)
