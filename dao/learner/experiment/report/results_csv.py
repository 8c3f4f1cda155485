"""The figures of every run of an experiment as one table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from dao.learner.basics.spreadsheets import harmless
from dao.learner.experiment.findings.runs import Runs

__all__ = ["results_csv"]


def results_csv(findings: Mapping[str, Any], runs: Runs) -> str:
    """A row per arm and seed; the cell of an unknown figure is empty."""
    metrics = list(findings["metrics"])
    latency = any(content.get("latency_ms") for content in findings["arms"].values())
    head = ["arm", "seed", *metrics, "trained_parameters", "dendrite_parameters"]
    head += [*(["latency_ms"] if latency else []), "seconds", "dendrites_kept"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([harmless(name) for name in head])
    for arm, content in findings["arms"].items():
        for seed in findings["seeds"]:
            values = [content["values"].get(m, {}).get(str(seed)) for m in metrics]
            if all(value is None for value in values):
                continue
            run = runs.get(arm, {}).get(seed)
            row = [arm, seed, *values, content.get("parameters")]
            row += [run.dendrites.get("parameters_added", 0) if run else None]
            row += [content.get("latency_ms")] if latency else []
            row += [content.get(k, {}).get(str(seed)) for k in ("seconds", "dendrites_kept")]
            writer.writerow([harmless(value) for value in row])
    return file.getvalue()
