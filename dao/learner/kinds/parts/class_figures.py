"""Figures of decisions between classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_figures"]


def class_figures(
    predicted: NDArray[Any], actual: NDArray[Any], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, F1, the figures of each class, the confusion matrix; JSON-able.

    The averages run over the classes that occur among predictions or targets, as scikit-learn's
    do; row i, column j of the confusion matrix counts class i called j.

    Args:
        predicted: Indices of classes, (n,), n > 0.
        actual: The same of the targets.
        classes: Names.
    """
    size = len(classes)
    cells = actual.astype(int) * size + predicted.astype(int)
    matrix = np.bincount(cells, minlength=size**2).reshape(size, size)
    right, support, called = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    occurs = support + called > 0
    columns = {
        "precision": _shares(right, called),
        "recall": _shares(right, support),
        "f1": _shares(2.0 * right, support + called),
        "support": support,
    }
    f1 = columns["f1"][occurs]
    return {
        "accuracy": float(np.mean(predicted == actual)),
        "macro_f1": float(np.mean(f1)),
        "weighted_f1": float(np.average(f1, weights=support[occurs])),
        "per_class": {
            label: {key: column[i].item() for key, column in columns.items()}
            for i, label in enumerate(classes)
        },
        "classes": list(classes),
        "confusion_matrix": matrix.tolist(),
    }


def _shares(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Part by part of the whole; 0 of nothing."""
    shares: NDArray[Any] = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return shares
