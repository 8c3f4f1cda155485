"""Figures on parts of the test rows, and what routers did on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.learner.basics.numbers import is_known
from dao.learner.experiment.findings.contrasts import About
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.plans.findings.spread import differences, spread

__all__ = ["breakdown_by", "plain_parts", "routing"]

Parts = Mapping[str, Mapping[str, Mapping[int, float | None]]]
"""Value of the column -> figure -> seed -> value, of one row."""


def breakdown_by(
    column: str,
    rows: Mapping[str, Sequence[Run]],
    pairs: Sequence[tuple[str, str]],
    metrics: Mapping[str, About],
) -> dict[str, Any]:
    """Figures of every row for each value of a column, and differences of pairs of rows.

    Args:
        column: that runs have broken their figures down by; runs that have not are left out.
        rows: row -> its runs.
        pairs: the rows whose differences are asked for, at the same seed.
        metrics: the figures to show.

    Returns:
        `column`; `n`, value -> task -> test rows; `rows`, row -> value -> figure -> mean, t95 and
        values by seed; `differences`, the same by the name of the pair.
    """
    parts = {row: _parts(column, runs, metrics) for row, runs in rows.items()}
    counts: dict[str, dict[str, int]] = {}
    for run in (run for runs in rows.values() for run in runs):
        for value, figures in _sliced(run, column).items():
            counts.setdefault(value, {}).update({t: own["n"] for t, own in figures.items()})
    apart = {}
    for a, b in pairs:
        one, other = parts.get(a, {}), parts.get(b, {})
        apart[f"{a} - {b}"] = {
            value: {
                metric: spread(differences(by_seed, other.get(value, {}).get(metric, {})))
                for metric, by_seed in figures.items()
            }
            for value, figures in one.items()
        }
    return {
        "column": column,
        "n": {value: counts[value] for value in sorted(counts)},
        "rows": {row: _spreads(found) for row, found in parts.items() if found},
        "differences": {name: found for name, found in apart.items() if found},
    }


def _sliced(run: Run, column: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = run.metrics["slices"].get("test", {}).get(column, {})
    return found


def _parts(
    column: str, runs: Sequence[Run], metrics: Mapping[str, About]
) -> dict[str, dict[str, dict[int, float | None]]]:
    found: dict[str, dict[str, dict[int, float | None]]] = {}
    for run in runs:
        for value, figures in _sliced(run, column).items():
            for metric, about in metrics.items():
                if about["task"] in figures:
                    by_seed = found.setdefault(value, {}).setdefault(metric, {})
                    by_seed[run.seed] = figures[about["task"]].get(about["key"])
    return found


def _spreads(parts: Parts) -> dict[str, Any]:
    return {
        value: {metric: spread(by_seed) for metric, by_seed in figures.items()}
        for value, figures in parts.items()
    }


def plain_parts(path: Path, column: str, metrics: Mapping[str, About]) -> dict[str, Any]:
    """Plain model -> value -> figure, from the file that the experiment wrote; empty without it."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for value, of_tasks in content.get(column, {}).items():
        for metric, about in metrics.items():
            for label, figures in of_tasks.get(about["task"], {}).items():
                if is_known(figures.get(about["key"])):
                    by_value = found.setdefault(label, {}).setdefault(value, {})
                    by_value[metric] = figures[about["key"]]
    return found


def routing(runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the router of an arm did on the test rows; None without a router.

    Returns:
        `accuracy`, the share of rows whose heaviest expert is that of their domain; the same of
        each of the `domains`; `usage`, the mean weight of each expert. Each with mean, t95 and
        values by seed.
    """
    found = {run.seed: run.metrics["routing"]["test"] for run in runs if "routing" in run.metrics}
    if not found:
        return None
    first = next(iter(found.values()))

    def right(domain: str) -> dict[str, Any]:
        of = {seed: about["domains"].get(domain, {}) for seed, about in found.items()}
        return spread({seed: about.get("accuracy") for seed, about in of.items()})

    return {
        "accuracy": spread({seed: about["accuracy"] for seed, about in found.items()}),
        "domains": {name: right(name) for name in first["domains"]},
        "usage": {
            name: spread({seed: about["usage"][name] for seed, about in found.items()})
            for name in first["usage"]
        },
    }
