"""Test errors to what a table says: change against single tasks, ranks, intervals, rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from dao.learner.experiment.findings.statistics import t_interval

__all__ = ["cell", "changes", "delta", "interval", "mean_ranks", "significant", "worst_task"]

Errors = Mapping[str, float]
"""Test error per task."""


def changes(errors: Errors, alone: Errors) -> dict[str, float]:
    """How far each task's error is below that of the task alone, in percent of the latter.

    Example:
        >>> changes({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0})
        {'a': 50.0, 'b': -50.0}
    """
    return {task: 100 * (alone[task] - errors[task]) / alone[task] for task in errors}


def delta(errors: Errors, alone: Errors) -> float:
    """Delta m: the mean of `changes` over tasks, in percent; positive is better than alone."""
    return float(np.mean(list(changes(errors, alone).values())))


def mean_ranks(by_arm: Mapping[str, Sequence[Errors]]) -> dict[str, float]:
    """Rank of each arm among all, 1 for the lowest error, over tasks and seeds; ties share.

    Args:
        by_arm: errors per seed; the same seeds for all.

    Example:
        >>> mean_ranks({"x": [{"a": 1.0, "b": 5.0}], "y": [{"a": 2.0, "b": 5.0}]})
        {'x': 1.25, 'y': 1.75}
    """
    table = [[list(errors.values()) for errors in seeds] for seeds in by_arm.values()]
    ranks = rankdata(np.array(table), axis=0).reshape(len(by_arm), -1).mean(1)
    return dict(zip(by_arm, map(float, ranks), strict=True))


def worst_task(seeds: Sequence[Errors], alone: Sequence[Errors]) -> tuple[str, float]:
    """The task with the lowest mean change over seeds, and that change in percent."""
    found = [changes(e, a) for e, a in zip(seeds, alone, strict=True)]
    means = {task: float(np.mean([row[task] for row in found])) for task in found[0]}
    task = min(means, key=lambda name: means[name])
    return task, means[task]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % t interval; NaN for fewer than two values."""
    if not values:
        return math.nan, math.nan
    mean, bounds = float(np.mean(values)), t_interval(values)
    return mean, math.nan if bounds is None else bounds[1] - mean


def significant(values: Sequence[float]) -> bool:
    """Whether the 95 % interval of the mean leaves out 0."""
    mean, half = interval(values)
    return abs(mean) > half


def cell(values: Sequence[float], digits: int = 1, *, paired: bool = False) -> str:
    """Mean ± half an interval; of a paired difference with its sign, bold where 0 is outside.

    Example:
        >>> cell([1.0, 2.0, 3.0]), cell([1.0, 1.1, 1.2], paired=True)
        ('2.0 ± 2.5', '**+1.1 ± 0.2**')
    """
    mean, half = interval(values)
    if math.isnan(mean):
        return ""
    text = f"{mean:{'+' if paired else ''}.{digits}f}"
    text += "" if math.isnan(half) else f" ± {half:.{digits}f}"
    return f"**{text}**" if paired and significant(values) else text
