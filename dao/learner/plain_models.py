"""Says plainly where a model is worse than a model that anybody has for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.kinds.recorded import headlines
from dao.learner.numbers import number

__all__ = ["better_ones", "worse_than_plain"]


def better_ones(value: float, plain: Mapping[str, float], better: str) -> dict[str, float]:
    """The plain models that beat a figure.

    Args:
        value: of the model.
        plain: name to figure.
        better: `higher` or `lower`, the direction in which the figure improves.

    Example:
        >>> better_ones(0.4, {"majority class": 0.5, "TF-IDF": 0.3}, "higher")
        {'majority class': 0.5}
        >>> better_ones(0.4, {"mean predictor": 0.5, "TF-IDF": 0.3}, "lower")
        {'TF-IDF': 0.3}
    """
    sign = 1.0 if better == "higher" else -1.0
    return {name: figure for name, figure in plain.items() if sign * (figure - value) > 0}


def worse_than_plain(metrics: Mapping[str, Any], split: str) -> list[str]:
    """One line for the headline figures of a run that a plain model beats; none without such.

    Args:
        metrics: the content of metrics.json.
        split: the part of the data.
    """
    told = []
    for task, shown in headlines(metrics).items():
        rows = metrics["baselines"].get(split, {}).get(task, {})
        figures = metrics["splits"].get(split, {}).get(task, {})
        for metric, arrow in shown:
            plain = {k: v[metric] for k, v in rows.items() if v.get(metric) is not None}
            value = figures.get(metric)
            if value is None:
                continue
            beaten = better_ones(value, plain, "higher" if arrow == "↑" else "lower")
            if beaten:
                by = ", ".join(f"{name} {number(figure)}" for name, figure in beaten.items())
                told.append(f"{task} {metric} {number(value)} ({by})")
    if not told:
        return []
    return [f"{metrics['arm']} is worse than a plain model on {split}: {'; '.join(told)}"]
