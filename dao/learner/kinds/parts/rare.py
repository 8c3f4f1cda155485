"""Figures of a class that is rare: accuracy says little of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dao.errors import UserError

__all__ = ["FIGURES", "RARE", "flat", "of_interest", "ranking", "rarest"]

RARE = 0.2
"""Share of the rows below which a class is called rare."""
FIGURES = (
    ("precision", "precision", "share"),
    ("recall", "recall", "share"),
    ("f1", "F1", "F1"),
    ("pr_auc", "PR-AUC", "area"),
    ("roc_auc", "ROC-AUC", "area"),
)
"""Key, name and unit of the figures of one class."""


def rarest(labels: Sequence[str]) -> tuple[str, float]:
    """The class of the fewest rows, the first by name of several, and its share of the rows.

    Example:
        >>> rarest(["b", "a", "b", "c"])
        ('a', 0.25)
    """
    counts = Counter(labels)
    name = min(sorted(counts), key=lambda label: counts[label])
    return name, counts[name] / len(labels)


def of_interest(
    name: str, wanted: str, classes: list[str], labels: list[Any], select_by: str
) -> str | None:
    """The class whose own figures are given; None where no class is of more interest.

    Raises:
        UserError: the wanted one is no class.
    """
    if wanted and wanted not in classes:
        raise UserError(
            f"`{name}.positive` should be one of the classes {', '.join(classes)}. Found "
            f"{wanted!r}. Correct it, or leave it out for the rarest."
        )
    least, share = rarest(labels)
    rare = len(classes) == 2 or share < RARE or select_by == "rare_f1"
    return wanted or (least if rare else None)


def ranking(
    scores: np.ndarray, actual: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """How well scores put the rows of each class above all others.

    Args:
        scores: of each class, (n, classes); higher is likelier.
        actual: class indices, (n,).
        classes: names.

    Returns:
        Per class the area under the ROC curve, and that under the precision-recall curve as
        average precision, sum of (R_i - R_(i-1)) P_i over the thresholds; None where the rows have
        none of the class, or no other.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    found: dict[str, dict[str, float | None]] = {}
    for index, name in enumerate(classes):
        positive = actual == index
        defined = positive.any() and not positive.all()
        column = scores[:, index]
        found[name] = {
            "roc_auc": float(roc_auc_score(positive, column)) if defined else None,
            "pr_auc": float(average_precision_score(positive, column)) if defined else None,
        }
    return found


def flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one class under names of their own, for tables and for selection.

    None where the rows have none of the class: a recall of nothing is not 0.

    Args:
        figures: of the class; without rows, `support` is 0 or areas are None already.
    """
    absent = figures.get("support") == 0
    return {
        f"rare_{key}": None if absent else figures[key] for key, _, _ in FIGURES if key in figures
    }
