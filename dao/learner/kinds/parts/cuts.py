"""Classes cut from a continuous score, from the lowest to the highest."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dao.data_weights import balanced_thresholds
from dao.errors import UserError

__all__ = ["Cut", "class_names", "classes_of", "thresholds_of"]

Cut = int | Sequence[float]
"""A number of classes of about equal size in training, or the thresholds between classes."""
NAMES = {2: ("low", "high"), 3: ("low", "middle", "high")}


def class_names(thresholds: Sequence[float]) -> list[str]:
    """A name per class, in order.

    Example:
        >>> class_names([-0.1, 0.1])
        ['low', 'middle', 'high']
        >>> class_names([-0.5, 0.0, 0.5])
        ['1: to -0.5', '2: to 0', '3: to 0.5', '4: above 0.5']
    """
    number = len(thresholds) + 1
    if number in NAMES:
        return list(NAMES[number])
    # Numbered, because two thresholds may look alike, and a name that begins with a minus sign
    # would be taken for a formula in a spreadsheet.
    ends = [f"to {end:.4g}" for end in thresholds] + [f"above {thresholds[-1]:.4g}"]
    return [f"{place}: {end}" for place, end in enumerate(ends, start=1)]


def classes_of(scores: Sequence[float | None], thresholds: Sequence[float]) -> list[str | None]:
    """The class of each score; one equal to a threshold belongs to the class below it.

    Example:
        >>> classes_of([-1.0, 0.1, None, 0.2], [-0.1, 0.1])
        ['low', 'middle', None, 'high']
    """
    names = class_names(thresholds)
    known = torch.tensor([s for s in scores if s is not None], dtype=torch.float64)
    places = iter(torch.bucketize(known, torch.tensor(thresholds, dtype=torch.float64)).tolist())
    return [None if score is None else names[next(places)] for score in scores]


def thresholds_of(name: str, cut: Cut, scores: Sequence[float], column: str) -> list[float]:
    """The thresholds, of which training rows lie on both sides.

    Args:
        name: Of the task.
        cut: Given thresholds are returned; for a number of classes they come from
            `dao.data_weights.balanced_thresholds`.
        scores: Of the training rows.
        column: The user's name of the scores.

    Raises:
        UserError: A class would have no training row.
    """
    if isinstance(cut, int):
        if len(set(scores)) < cut:
            raise UserError(
                f"`{name}.cut` should be at most the number of distinct values of `{column}` in "
                f"the train split. Found {cut} for {len(set(scores))}. Ask for fewer classes."
            )
        found = balanced_thresholds(torch.tensor(scores, dtype=torch.float64), cut)
        return [float(threshold) for threshold in found]
    filled = set(classes_of(scores, cut))
    if empty := [name for name in class_names(cut) if name not in filled]:
        inside = f"{min(scores):g} to {max(scores):g}" if scores else "no score"
        raise UserError(
            f"`{name}.cut` should leave training rows in every class. Found none in {empty[0]!r}: "
            f"`{column}` runs over {inside}. Move the thresholds, or give a number of classes."
        )
    return list(cut)
