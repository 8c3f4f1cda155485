"""Differences between two arms as a share of the second, as papers give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dao.learner.experiment.findings.contrasts import About, Contrast, main_figures
from dao.learner.experiment.findings.statistics import t_interval
from dao.learner.experiment.findings.verdicts import Figures

__all__ = ["changes"]


def changes(
    contrasts: Iterable[Contrast], arms: Mapping[str, Figures], metrics: Mapping[str, About]
) -> list[dict[str, Any]]:
    """The change 100 (a - b) / b of each main figure for each pair of arms, paired by seed.

    Args:
        contrasts: those of two arms are used, but not checks.
        arms: arm -> figures per seed.
        metrics: the figures, as `contrasts.measured` has them.

    Returns:
        For each: metric, name, a, b, seeds, percent (mean over seeds), t95 of that mean (None below
        two seeds); JSON-able. A seed at which b is 0 is left out.
    """
    found = []
    for contrast in contrasts:
        if len(contrast.weights) != 2 or contrast.check:
            continue
        a, b = sorted(contrast.weights, key=lambda arm: -contrast.weights[arm])
        for task, metric in main_figures(metrics).items():
            if contrast.task not in (None, task):
                continue
            left, right = (_known(arms.get(arm, {}), metric) for arm in (a, b))
            seeds = [seed for seed in sorted(left) if right.get(seed)]
            if not seeds:
                continue
            percent = np.array([100 * (left[s] / right[s] - 1) for s in seeds])
            interval = t_interval(percent)
            about = {"metric": metric, "name": contrast.name, "a": a, "b": b, "seeds": seeds}
            spread = {"t95": None if interval is None else list(interval)}
            found.append({**about, "percent": float(percent.mean()), **spread})
    return found


def _known(figures: Figures, metric: str) -> dict[int, float]:
    by_seed = {seed: found.get(metric) for seed, found in figures.items()}
    return {seed: value for seed, value in by_seed.items() if value is not None}
