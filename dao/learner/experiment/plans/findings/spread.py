"""Figures by seed, with their mean and its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.basics.numbers import is_known
from dao.learner.experiment.findings.statistics import t_interval

__all__ = ["differences", "spread"]


def spread(by_seed: Mapping[int, float | None]) -> dict[str, Any]:
    """Values by seed, their mean and its 95 % t interval; None where there is none.

    Example:
        >>> found = spread({0: 1.0, 1: 3.0, 2: None})
        >>> found["mean"], found["values"]
        (2.0, {'0': 1.0, '1': 3.0})
    """
    known = {str(seed): float(value) for seed, value in by_seed.items() if is_known(value)}
    interval = t_interval(list(known.values()))
    return {
        "values": known,
        "mean": sum(known.values()) / len(known) if known else None,
        "t95": None if interval is None else list(interval),
    }


def differences(
    a: Mapping[int, float | None], b: Mapping[int, float | None]
) -> dict[int, float | None]:
    """One minus the other, at the seeds that both have.

    Example:
        >>> differences({0: 3.0, 1: 5.0}, {1: 1.0, 2: 0.0})
        {1: 4.0}
    """
    both = {seed: (a[seed], b[seed]) for seed in a if seed in b}
    return {s: x - y if is_known(x) and is_known(y) else None for s, (x, y) in both.items()}
