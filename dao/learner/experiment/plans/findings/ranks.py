"""The mean rank of each row over tasks and seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from dao.learner.basics.numbers import is_known
from dao.learner.experiment.findings.contrasts import About, main_figures
from dao.learner.experiment.findings.verdicts import Figures

__all__ = ["mean_ranks"]


def mean_ranks(
    rows: Mapping[str, Figures],
    stopped: Mapping[str, Collection[int]],
    metrics: Mapping[str, About],
) -> dict[str, float]:
    """The mean over seeds and tasks of a row's rank in the task's main figure; 1 is the best.

    Rows that are alike share their ranks' mean. A run that stopped by itself, or whose figure is
    not finite, has the last rank.

    Args:
        rows: those to rank, which have all tasks: seed -> figures.
        stopped: row -> seeds at which its run stopped.
        metrics: the figures, as `contrasts.measured` has them.

    Returns:
        Of the seeds at which every row has a run that ended or stopped; empty without one.
    """
    every = {row: {*figures, *stopped.get(row, ())} for row, figures in rows.items()}
    seeds = sorted(set.intersection(*every.values())) if len(every) > 1 else []
    ranks: list[Sequence[float]] = []
    for seed in seeds:
        for metric in main_figures(metrics).values():
            sign = 1.0 if metrics[metric]["better"] == "higher" else -1.0
            found = (figures.get(seed, {}).get(metric) for figures in rows.values())
            values = [sign * value if is_known(value) else -math.inf for value in found]
            ranks.append(rankdata(np.negative(values)))
    if not ranks:
        return {}
    return dict(zip(rows, np.mean(ranks, axis=0).tolist(), strict=True))
