"""Nonconformities of calibration rows, and the limit that a coverage takes from them."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from dao.learner.kinds.base import Array
from dao.learner.kinds.certainty.regions import Conformal

__all__ = ["KEPT", "calibration_scores", "largest_coverage", "limit_of"]

KEPT = 2000
"""Scores that a run keeps of a task: with as many, coverage varies by .7 points around 90 %."""
ROUNDING = 1e-9  # (n + 1) * coverage is a whole number where it differs by less


def calibration_scores(task: Conformal, outputs: Tensor, targets: Tensor, seed: int) -> list[float]:
    """Nonconformities in ascending order; of more than `KEPT` a random choice of as many.

    A random choice keeps the guarantee: its rows are as exchangeable with new rows as all are.

    Args:
        task: of the outputs.
        outputs: of the model, (n, width).
        targets: encoded, all present.
        seed: of the choice.
    """
    found = task.nonconformity(outputs, targets)
    if len(found) > KEPT:
        found = np.random.default_rng(seed).choice(found, KEPT, replace=False)
    return sorted(found.tolist())


def limit_of(scores: Array, coverage: float) -> float | None:
    r"""The nonconformity up to which an answer is in the region.

    It is the k-th smallest of n scores with :math:`k = \lceil (n + 1) c \rceil`, the quantile at
    the level :math:`\lceil (n + 1) c \rceil / n` (Angelopoulos and Bates 2023, arXiv 2107.07511,
    section 1). Where calibration rows and new rows are exchangeable, a region holds the truth with
    a probability between c and c + 1 / (n + 1).

    Args:
        scores: of the calibration rows, ascending, (n,).
        coverage: c, above 0 and below 1.

    Returns:
        The limit; None where n is too small for this coverage.

    Example:
        >>> limit_of(np.array([0.1, 0.2, 0.3, 0.4]), 0.6), limit_of(np.array([0.1, 0.2]), 0.9)
        (0.3, None)
    """
    place = math.ceil((len(scores) + 1) * coverage - ROUNDING)
    return float(scores[place - 1]) if 1 <= place <= len(scores) else None


def largest_coverage(rows: int) -> float:
    """The largest coverage for which so many calibration rows are enough: n / (n + 1)."""
    return rows / (rows + 1)
