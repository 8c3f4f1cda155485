"""The probability from which on a row is called positive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Marks",
    "Scores",
    "Thresholded",
    "best_threshold",
    "chosen_threshold",
    "probabilities",
]

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


def chosen_threshold(positive: Scores, targets: Tensor) -> float:
    """The threshold of the best F1 on rows; 0.5 where these do not have both classes.

    Args:
        positive: Probabilities of the positive class, (n,).
        targets: 1 or 0, NaN where missing, (n,).
    """
    actual = targets.detach().cpu().numpy()
    known = ~np.isnan(actual)
    marks = actual[known] == 1
    if not 0 < marks.sum() < len(marks):
        return 0.5
    return best_threshold(marks, positive[known])


def probabilities(logits: Tensor) -> NDArray[Any]:
    """Probability of a positive answer by its logit, float64, of any shape."""
    return torch.sigmoid(logits.detach().double()).cpu().numpy()


class Thresholded(ABC):
    """What a kind of task has besides where a threshold can be chosen for its positive class."""

    def at_one_half(self) -> Self:
        """This task with the usual decision in place of a threshold that was chosen."""
        return self

    @abstractmethod
    def linear(self, train: tuple[Sequence[str], Tensor], texts: Sequence[str]) -> Tensor:
        """Outputs (n, width) that TF-IDF with a linear model gives for n texts."""
