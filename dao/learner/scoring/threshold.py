"""A threshold for the rare class: chosen on validation, measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, precision_recall_curve

from dao.errors import UserError
from dao.learner.basics.numbers import aligned
from dao.learner.kinds.parts.thresholds import Marks, Scores, best_threshold

__all__ = ["Part", "curve", "f1", "sweep", "sweep_lines"]

USUAL = "the most probable class"
"""What decides in every other report; of two classes, a threshold of 0.5."""
RESAMPLES = 2000
BATCH = 100  # resamples in memory at a time


class Part(NamedTuple):
    """The labelled rows of a split, each array (n,)."""

    positive: Marks
    """Which rows are of the class."""
    scores: Scores
    """Probabilities of it."""
    usual: Marks
    """Which rows the model itself calls so, because no other class is more probable."""


def f1(positive: Marks, called: Marks, axis: int = -1) -> Any:  # noqa: ANN401  (float or array)
    """F1 along an axis, 0 where no row is of the class and none is called so."""
    hits = (positive & called).sum(axis)
    rows = positive.sum(axis) + called.sum(axis)
    return np.divide(2 * hits, rows, out=np.zeros(np.shape(rows)), where=rows > 0)


def sweep(validation: Part, test: Part, task: str = "TASK", seed: int = 0) -> dict[str, Any]:
    """Choose a threshold by F1 on validation, and measure it beside the usual decision on test.

    The interval is of the difference in F1 over resampled test rows, with model and threshold as
    they are; it says nothing of other seeds.

    Args:
        validation: its rows.
        test: the test rows.
        task: its name, for errors.
        seed: of the resampling.

    Returns:
        JSON-able: `threshold`; figures at it and of `usual` on both splits; `difference` in F1 on
        test with its interval by percentiles; `verdict` in words.

    Raises:
        UserError: a split has no row of the class, or no other.
    """
    for name, (positive, _, _) in (("validation", validation), ("test", test)):
        if positive.all() or not positive.any():
            raise UserError(
                f"A threshold should be chosen between rows of the class and others. Found "
                f"{int(positive.sum())} of {len(positive)} rows of it in the {name} split. Give "
                f"more data, or another class with {task}.positive=CLASS."
            )
    chosen = best_threshold(validation.positive, validation.scores)
    parts: dict[str, dict[str, Any]] = {
        name: {
            "n": len(positive),
            "positive": int(positive.sum()),
            "pr_auc": float(average_precision_score(positive, scores)),
            "chosen": _figures(positive, scores >= chosen),
            "usual": _figures(positive, usual),
        }
        for name, (positive, scores, usual) in (("validation", validation), ("test", test))
    }
    difference = parts["test"]["chosen"]["f1"] - parts["test"]["usual"]["f1"]
    interval = _interval(test.positive, test.scores >= chosen, test.usual, seed)
    return {
        "threshold": chosen,
        "usual": USUAL,
        **parts,
        "difference": {"f1": difference, "interval95": interval, "resamples": RESAMPLES},
        "verdict": _verdict(interval),
    }


def curve(positive: Marks, scores: Scores) -> tuple[Sequence[float], Sequence[float]]:
    """Recall and precision at every threshold."""
    precision, recall, _ = precision_recall_curve(positive, scores)
    return recall.tolist(), precision.tolist()


def _figures(positive: Marks, called: Marks) -> dict[str, float | int]:
    hits = int((positive & called).sum())
    return {
        "precision": hits / max(1, int(called.sum())),
        "recall": hits / int(positive.sum()),
        "f1": float(f1(positive, called)),
        "called": int(called.sum()),
    }


def _interval(positive: Marks, chosen: Marks, usual: Marks, seed: int) -> list[float]:
    def difference(positive: Marks, chosen: Marks, usual: Marks, axis: int) -> Any:  # noqa: ANN401
        return f1(positive, chosen, axis) - f1(positive, usual, axis)

    if (chosen == usual).all():
        return [0.0, 0.0]
    found = bootstrap(
        (positive, chosen, usual),
        difference,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(found.low), float(found.high)]


def _verdict(interval: Sequence[float]) -> str:
    low, high = interval
    if low > 0:
        return f"the threshold chosen on validation beats {USUAL} on test"
    if high < 0:
        return f"the threshold chosen on validation is worse than {USUAL} on test"
    return f"the threshold chosen on validation does not beat {USUAL} on test beyond chance"


def sweep_lines(found: Mapping[str, Any]) -> list[str]:
    """What to keep in mind of a sweep, in plain lines."""
    difference = found["difference"]
    f1, low, high = aligned([difference["f1"], *difference["interval95"]], signed=True)
    return [
        f"{found['verdict']}: F1 {f1}, 95 % interval {low} to {high} over "
        f"{difference['resamples']} resamples of the test rows",
        "the interval is about this model on further rows of this kind, not about other seeds",
    ]
