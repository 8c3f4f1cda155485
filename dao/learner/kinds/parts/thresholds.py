"""The probability from which on a row is called positive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Marks", "Scores", "best_threshold"]

Scores = NDArray[np.float64]
Marks = NDArray[np.bool_]


def best_threshold(positive: Marks, scores: Scores) -> float:
    """The score from which on calling a row positive gives the best F1; of several, the highest.

    Args:
        positive: Which rows are of the class, (n,).
        scores: Probabilities of it, (n,).

    Example:
        >>> best_threshold(np.array([True, False, True, False]), np.array([0.4, 0.2, 0.3, 0.1]))
        0.3
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(positive, scores)
    both = precision + recall
    values = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)[:-1]
    return float(thresholds[np.flatnonzero(values == values.max())[-1]])
