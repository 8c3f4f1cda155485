"""Figures of decisions between classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    from sklearn.metrics import (
        accuracy_score,
        confusion_matrix,
        f1_score,
        precision_recall_fscore_support,
    )

    indices = list(range(len(classes)))
    figures = precision_recall_fscore_support(actual, predicted, labels=indices, zero_division=0)
    names = ("precision", "recall", "f1", "support")
    return {
        "accuracy": float(accuracy_score(actual, predicted)),
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(actual, predicted, average="weighted", zero_division=0)),
        "per_class": {
            label: {key: column[i].item() for key, column in zip(names, figures, strict=True)}
            for i, label in enumerate(classes)
        },
        "classes": list(classes),
        "confusion_matrix": confusion_matrix(actual, predicted, labels=indices).tolist(),
    }
