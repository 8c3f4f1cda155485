"""Figures of the test predictions: confusions, scores and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import confusion_matrix

from dao.learner.basics.numbers import number
from dao.learner.basics.wording import count
from dao.learner.calibration.reliability import Reliability, reliability
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.pictures.figures import INK, Panel, arm_style

__all__ = [
    "calibration",
    "calibration_panel",
    "confusion_panel",
    "labels_panel",
    "score_panel",
]

NUMBERED = 12  # classes up to which a cell has room for its count
LABELS = 20  # bars of a picture
DOT = "#2a8fd0"  # of pixels, which cannot follow the theme: it stands out from light and dark
SHORTENED = 16  # characters of a class name on an axis


def confusion_panel(arm: str, runs: Sequence[Run], task: str) -> Panel | None:
    """The confusion matrix of an arm, all seeds together; None without predictions."""
    classes = _classes(runs, task)
    rows = _pooled(runs, [f"{task}_target", task])
    if not classes or rows.empty:
        return None
    counts = confusion_matrix(rows[f"{task}_target"], rows[task], labels=classes)
    right = int(np.trace(counts))
    told = f"{right} of {counts.sum()} right over {count(len(runs), 'seed')}"
    return Panel(
        partial(_draw_confusion, counts=counts, classes=classes, title=f"{task}: {arm}"),
        f"Confusion matrix of {task}, {arm}: {told}.",
        (4.3, 3.9),
    )


def _draw_confusion(axes: Axes, counts: np.ndarray, classes: Sequence[str], title: str) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class")
    if len(classes) <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{count:,}", ha="center", va="center",
                color="#ffffff" if dark else "#101010",
            )  # fmt: skip
    names = [_short(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set_title(title)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def _short(name: str) -> str:
    return name if len(name) <= SHORTENED else f"{name[: SHORTENED - 1]}…"


def score_panel(arm: str, runs: Sequence[Run], task: str) -> Panel | None:
    """Predicted against true score, all seeds together; None without predictions."""
    rows = _pooled(runs, [f"{task}_target", task])
    if rows.empty:
        return None
    actual, predicted = (rows[c].astype(float).to_numpy() for c in (f"{task}_target", task))
    error = float(np.mean((actual - predicted) ** 2))
    return Panel(
        partial(_draw_scores, actual=actual, predicted=predicted, title=f"{task}: {arm}"),
        f"Predicted against true score of {task}, {arm}, {len(rows):,} predictions over "
        f"{count(len(runs), 'seed')}; mean squared error {number(error)}.",
        (4.3, 4.0),
    )


def _draw_scores(axes: Axes, actual: np.ndarray, predicted: np.ndarray, title: str) -> None:
    # As pixels: thousands of vector points would only make the page heavy.
    axes.scatter(actual, predicted, s=11, alpha=0.7, color=DOT, linewidths=0, rasterized=True)
    both = np.concatenate([actual, predicted])
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=INK, linewidth=1, linestyle="--", label="predicted = true")
    axes.set_title(title)
    axes.locator_params(nbins=6)
    axes.set_xlabel("true score (unit of the data)")
    axes.set_ylabel("predicted score (unit of the data)")


def labels_panel(arm: str, runs: Sequence[Run], task: str) -> Panel | None:
    """F1 of each label of a task, mean over seeds, the frequent ones first; None without any."""
    tables = [run.metrics["splits"]["test"].get(task, {}).get("per_label") for run in runs]
    known = [table for table in tables if table]
    if not known:
        return None
    names = sorted(known[0], key=lambda name: (-known[0][name]["support"], name))[:LABELS]
    f1 = {name: float(np.mean([table[name]["f1"] for table in known])) for name in names}
    rows = {name: int(known[0][name]["support"]) for name in names}
    told = "; ".join(f"{name} {value:.3f}" for name, value in f1.items())
    return Panel(
        partial(_draw_labels, f1=f1, rows=rows, title=f"{task}: {arm}", arm=arm),
        f"F1 of the labels of {task}, {arm}. {told}.",
        (4.3, 1.2 + 0.22 * max(6, len(names))),
    )


def _draw_labels(
    axes: Axes, f1: dict[str, float], rows: dict[str, int], title: str, arm: str
) -> None:
    axes.barh(range(len(f1)), list(f1.values()), color=arm_style(arm)["color"], height=0.65)
    axes.set_yticks(range(len(f1)), [f"{_short(name)} ({rows[name]:,})" for name in f1])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    axes.set_xlabel("F1")
    axes.set_ylabel("label (test rows)")


def calibration(runs: Sequence[Run], task: str) -> Reliability | None:
    """The reliability of an arm's probabilities, all seeds together; None without any.

    They are of the most probable class or, where a row has any number of labels, of each label's
    being there or not, whichever is more probable. So a threshold that decides plays no part.
    """
    classes = _classes(runs, task)
    columns = [f"{task}_p_{name}" for name in classes]
    rows = _pooled(runs, [f"{task}_target", task, *columns])
    if not classes or rows.empty:
        return None
    separator = runs[0].config.tasks[task].model_dump().get("separator")
    if separator is not None:  # any number of labels in a cell
        true = _has(rows[f"{task}_target"], classes, separator)
        share = rows[columns].to_numpy(dtype=float)
        likely = share >= 0.5
        return reliability(np.where(likely, share, 1 - share).ravel(), (likely == true).ravel())
    chances = rows[columns].to_numpy(dtype=float)
    likely = np.array(classes, dtype=object)[chances.argmax(axis=1)]
    return reliability(chances.max(axis=1), likely == rows[f"{task}_target"].to_numpy())


def _has(cells: pd.Series, labels: Sequence[str], separator: str) -> np.ndarray:
    """Whether each cell has each label, (rows, labels)."""
    found = [set(cell.split(separator)) for cell in cells]
    return np.array([[label in names for label in labels] for names in found], dtype=bool)


def calibration_panel(found: dict[str, Reliability], task: str) -> Panel:
    """Share of right predictions of a task against confidence, one line per arm."""
    told = "; ".join(f"{a} ECE {number(r.ece)}" for a, r in found.items())
    return Panel(
        partial(_draw_calibration, found=found, title=f"{task}: calibration"),
        f"{task}: reliability of the probability of the most probable answer. {told}.",
        (4.3, 4.0),
    )


def _draw_calibration(axes: Axes, found: dict[str, Reliability], title: str) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (1, 2)), label="calibrated")
    for arm, curve in found.items():
        style = arm_style(arm)
        size = 12 + 120 * curve.count / curve.count.sum()
        marker = style.pop("marker")
        axes.plot(curve.confidence, curve.accuracy, **style)
        axes.scatter(
            curve.confidence,
            curve.accuracy,
            s=size,
            color=style["color"],
            marker=marker,
            label=arm,
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_title(title)
    axes.set_xlabel("probability of the prediction (share)")
    axes.set_ylabel("right predictions (share)")


def _classes(runs: Sequence[Run], task: str) -> list[str]:
    prefix = f"{task}_p_"
    for run in runs:
        if run.has_predictions and not run.predictions.empty:
            return [c.removeprefix(prefix) for c in run.predictions if c.startswith(prefix)]
    return []


def _pooled(runs: Sequence[Run], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of all runs that have a target."""
    found: list[Any] = [
        run.predictions[list(columns)]
        for run in runs
        if run.has_predictions and set(columns) <= set(run.predictions)
    ]
    if not found:
        return pd.DataFrame()
    rows = pd.concat(found, ignore_index=True)
    return rows[rows[columns[0]].notna()]
