"""The learning rate of each row: from a small grid, by validation, on seeds of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.frozen.runner import Lines
from benchmarks.frozen.training import Job

__all__ = ["Rates", "best_rate", "tuning_jobs"]


@dataclass(frozen=True)
class Rates:
    """What is tried.

    Attributes:
        fixed: of all rows, in the tables with one rate.
        tried: from which each row takes its own.
        seeds: on which it does; none of them is tested.
    """

    fixed: float
    tried: tuple[float, ...]
    seeds: tuple[int, ...]


def tuning_jobs(cells: Sequence[Job], rates: Mapping[str, Rates]) -> list[Job]:
    """Every cell with every rate and seed of tuning; rates by optimizer."""
    return [
        replace(cell, rate=rate, seed=seed)
        for cell in cells
        for rate in rates[cell.optimizer].tried
        for seed in rates[cell.optimizer].seeds
    ]


def best_rate(cell: Job, rates: Rates, lines: Lines) -> float:
    """The rate with the best mean validation score over the seeds of tuning; a tie: the lower.

    A run without a finite score counts as the worst.
    """
    scores = {}
    for rate in rates.tried:
        jobs = [replace(cell, rate=rate, seed=seed) for seed in rates.seeds]
        found = [lines[job.key]["validation"] for job in jobs]
        scores[rate] = float(np.mean([-np.inf if v is None else v for v in found]))
    return max(sorted(scores), key=lambda rate: scores[rate])
