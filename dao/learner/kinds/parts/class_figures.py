"""Figures of decisions between classes, and of the order that scores give the rows.

They are scikit-learn's, from its definitions: a validation computes a few of them per task, and its
checks of the arrays would take far longer than the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Areas", "areas", "class_figures", "confusion", "shares"]

Array = NDArray[Any]


class Areas(NamedTuple):
    """The areas under two curves of a class."""

    roc: float
    """Under the ROC curve: how often a row of the class is above another, ties counting half."""
    precision_recall: float
    """Average precision, sum of (R_i - R_(i-1)) P_i over the thresholds."""


def confusion(predicted: Array, actual: Array, classes: int) -> Array:
    """Counts (classes, classes): row i, column j counts rows of class i that are called j.

    Args:
        predicted: Indices of classes, (n,).
        actual: The same of the targets.
        classes: How many there are.

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    places = np.asarray(actual, dtype=int) * classes + np.asarray(predicted, dtype=int)
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def shares(part: Array, whole: Array) -> Array:
    """Part / whole, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def class_figures(predicted: Array, actual: Array, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, F1, the figures of each class, the confusion matrix; JSON-able.

    The averages run over the classes that occur among predictions or targets, as scikit-learn's
    do; row i, column j of the confusion matrix counts class i called j.

    Args:
        predicted: Indices of classes, (n,), n > 0.
        actual: The same of the targets.
        classes: Names.
    """
    counts = confusion(predicted, actual, len(classes))
    hits, called, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    f1, some = shares(2 * hits, called + support), called + support > 0
    columns = {"precision": shares(hits, called), "recall": shares(hits, support), "f1": f1,
               "support": support}  # fmt: skip
    return {
        "accuracy": float(hits.sum() / counts.sum()),
        "macro_f1": float(f1[some].mean()),
        "weighted_f1": float(np.average(f1[some], weights=support[some])),
        "per_class": {
            label: {key: column[i].item() for key, column in columns.items()}
            for i, label in enumerate(classes)
        },
        "classes": list(classes),
        "confusion_matrix": counts.tolist(),
    }


def areas(positive: Array, scores: Array) -> Areas:
    """How well scores put the rows of a class above all others.

    Args:
        positive: Which rows are of the class, (n,); some are, and some are not.
        scores: Finite, (n,); higher is likelier.

    Example:
        >>> areas(np.array([True, False, True]), np.array([0.9, 0.5, 0.1]))
        Areas(roc=0.5, precision_recall=0.8333333333333333)
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(np.asarray(positive, dtype=bool)[order])[last])
    others = np.append(0, last + 1) - hits
    above = (np.diff(others) * (hits[1:] + hits[:-1])).sum() / 2
    precision = hits[1:] / (hits[1:] + others[1:])
    return Areas(
        roc=float(above / (hits[-1] * others[-1])),
        precision_recall=float((np.diff(hits) * precision).sum() / hits[-1]),
    )
