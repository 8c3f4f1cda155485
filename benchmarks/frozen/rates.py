"""The learning rate of each row: from a small grid, by validation, on seeds of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from benchmarks.frozen.runner import Keyed, Lines

__all__ = ["Rates", "best_rate", "tuning_jobs"]


class Tuned(Keyed, Protocol):
    """A run, a dataclass, that a study makes at several rates and with several seeds."""

    @property
    def rate(self) -> float:
        """Learning rate."""

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


AnyTuned = TypeVar("AnyTuned", bound=Tuned)


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


def tuning_jobs(cells: Mapping[AnyTuned, Rates]) -> list[AnyTuned]:
    """Every cell with every rate and seed that it is tuned with."""
    return [
        replace(cell, rate=rate, seed=seed)
        for cell, rates in cells.items()
        for rate in rates.tried
        for seed in rates.seeds
    ]


def best_rate(cell: Tuned, rates: Rates, lines: Lines) -> float:
    """The rate with the best mean validation score over the seeds of tuning; a tie: the lower.

    A run without a finite score counts as the worst.
    """
    scores = {}
    for rate in rates.tried:
        jobs = [replace(cell, rate=rate, seed=seed) for seed in rates.seeds]
        found = [lines[job.key]["validation"] for job in jobs]
        scores[rate] = float(np.mean([-np.inf if v is None else v for v in found]))
    return max(sorted(scores), key=lambda rate: scores[rate])
