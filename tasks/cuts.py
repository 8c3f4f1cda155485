"""Classes cut from a continuous score, from the lowest to the highest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from dao.data_weights import balanced_thresholds
from dao.errors import UserError
from tasks.regression import Regression
from tasks.sources import Raw
from tasks.table import Columns, shown

__all__ = ["Cut", "class_names", "classes_of", "cut_frame", "thresholds_of"]

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


def thresholds_of(cut: Cut, scores: Sequence[float], column: str) -> list[float]:
    """The thresholds, of which training rows lie on both sides.

    Args:
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
                f"`cls.cut` should be at most the number of distinct values of `{column}` in the "
                f"train split. Found {cut} for {len(set(scores))}. Ask for fewer classes."
            )
        found = balanced_thresholds(torch.tensor(scores, dtype=torch.float64), cut)
        return [float(threshold) for threshold in found]
    filled = set(classes_of(scores, cut))
    if empty := [name for name in class_names(cut) if name not in filled]:
        inside = f"{min(scores):g} to {max(scores):g}" if scores else "no score"
        raise UserError(
            f"`cls.cut` should leave training rows in every class. Found none in {empty[0]!r}: "
            f"`{column}` runs over {inside}. Move the thresholds, or give a number of classes."
        )
    return list(cut)


def cut_frame(
    frame: pd.DataFrame,
    raw: Sequence[Raw],
    columns: Columns,
    tasks: Sequence[str],
    thresholds: Sequence[float],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Give every row the class of its score; the score stays where it is a task itself.

    Args:
        frame: Rows with the column `reg`.
        raw: What was read, to say what of it is not used.
        columns: The user's names.
        tasks: Tasks of the finished table.
        thresholds: Ascending.

    Returns:
        The rows, and the report's entry.

    Raises:
        UserError: The truth behind a score, in a column `clean_SCORE`, is no number.
    """
    score, label = columns.column("reg"), columns.column("cls")
    cut = {"cls": frame["reg"].tolist()}
    # What stands beside the label is of other classes; the truth behind a score has one of these.
    frame = frame.drop(columns=f"clean_{label}", errors="ignore")
    if (truth := f"clean_{score}") in frame:
        cut[f"clean_{label}"] = _numbers(truth, frame[truth].tolist())
    for to, scores in cut.items():
        frame[to] = pd.Series(classes_of(scores, thresholds), index=frame.index, dtype=object)
    unused = [label] if any(label in part.frame for part in raw) else []
    about = {"column": score, "thresholds": list(thresholds), "unused": unused}
    return frame if "reg" in tasks else frame.drop(columns="reg"), {"cut": about}


def _numbers(column: str, cells: Sequence[object]) -> list[float | None]:
    found = []
    for cell in cells:
        try:
            found.append(Regression.parse(cell))
        except ValueError as error:
            raise UserError(
                f"`{column}` should be {error}. Found {shown(cell)}. Correct it, or rename the "
                f"column, which is taken for the truth behind the score."
            ) from None
    return found
