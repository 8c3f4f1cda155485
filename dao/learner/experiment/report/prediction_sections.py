"""The sections of a report that show predictions, each task in the picture of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dao.learner.basics.limits import PICTURED
from dao.learner.calibration.reliability import Reliability
from dao.learner.experiment.findings.runs import Run, Runs
from dao.learner.experiment.pages.page import PageFigure, PageTable, Section, Text
from dao.learner.experiment.pages.words import explained
from dao.learner.experiment.pictures.figures import Panel
from dao.learner.experiment.pictures.prediction_figures import (
    calibration,
    calibration_panel,
    confusion_panel,
    labels_panel,
    score_panel,
)
from dao.learner.experiment.report.tables import number

__all__ = ["figure", "left_out", "prediction_sections"]

CORNERS = ("base", "dao", "dendrites", "dao+dendrites", "dao-paper")
BESIDE_BASE = ("dao+dendrites", "dendrites", "dao", "dao-paper")
"""Arms of which the first that the experiment has is shown beside base."""
PREDICTED = 2
"""Pictures of predictions that are seen without opening anything."""
POOLED = "Test rows of all seeds together"
Draw = Callable[[str, Sequence[Run], str], Panel | None]
VIEWS: Mapping[str, tuple[str, str, Draw, str]] = {
    "confusion": (
        "Confusion matrix", "figures/confusion.png", confusion_panel,
        f"{POOLED}; colour: share of the row.",
    ),
    "scatter": (
        "Predicted and true score", "figures/scores.png", score_panel, f"{POOLED}.",
    ),
    "labels": (
        "F1 of each label", "figures/labels.png", labels_panel,
        "Mean over seeds; the label's number of test rows is in brackets.",
    ),
}  # fmt: skip
"""View of a kind -> title, file, picture, caption."""


def prediction_sections(findings: Mapping[str, Any], runs: Runs) -> list[Section]:
    """Pictures of the predictions of each task, and how well probabilities are calibrated."""
    views: dict[str, str] = findings["views"]
    sections = []
    for view, (title, path, draw, caption) in VIEWS.items():
        tasks = [task for task, own in views.items() if own == view]
        if not tasks:
            continue
        if len(tasks) > PICTURED:
            sections.append(left_out(title, f"more than {PICTURED} tasks have one"))
            continue
        panels = [
            panel for task in tasks for panel in _compared(findings["design"], runs, draw, task)
        ]
        sections.append(figure(title, path, panels, caption, first=PREDICTED))
    classes = [task for task, view in views.items() if view == "confusion"]
    return [*sections, _calibration(runs, classes)] if classes else sections


def figure(
    title: str,
    path: str,
    panels: Sequence[Panel],
    caption: str,
    *,
    first: int | None = None,
    folded: bool = False,
) -> Section:
    """A section of one figure; without panels, a section that says that it is left out."""
    if not panels:
        return left_out(title, "no run has what it needs")
    return Section(title, [PageFigure(path, panels, caption, first)], folded)


def left_out(title: str, reason: str) -> Section:
    """A section that says why it is empty."""
    return Section(title, [Text(f"Left out: {reason}.", quiet=True)])


def _compared(design: Sequence[str], runs: Runs, draw: Draw, task: str) -> list[Panel]:
    shown = ["base", *[arm for arm in BESIDE_BASE if arm in design][:1]]
    panels = [draw(arm, [*runs[arm].values()], task) for arm in shown if arm in runs]
    return [panel for panel in panels if panel]


def _calibration(runs: Runs, tasks: Sequence[str]) -> Section:
    found: dict[str, dict[str, Reliability]] = {}
    for task in tasks[:PICTURED]:
        curves = {
            arm: curve
            for arm in CORNERS
            if arm in runs and (curve := calibration(list(runs[arm].values()), task))
        }
        if curves:
            found[task] = curves
    if not found:
        return left_out("Calibration", "no run has predictions with class probabilities")
    caption = (
        f"{POOLED}, in ten bins of equal width by the probability of the likeliest class; the "
        "larger a point, the more rows in its bin. ECE: mean distance from the diagonal, weighted "
        "by rows."
    )
    if len(tasks) > PICTURED:
        caption += f" Of {len(tasks)} tasks the first {PICTURED} are shown."
    rows = [
        [task, arm, f"{curve.count.sum():,}", number(curve.ece)]
        for task, curves in found.items()
        for arm, curve in curves.items()
    ]
    head = ("task", "arm", "predictions", "ECE (share)")
    table = PageTable("Expected calibration error", head, rows)
    panels = [calibration_panel(curves, task) for task, curves in found.items()]
    shown = PageFigure("figures/calibration.png", panels, caption, 1)
    return Section("Calibration", [shown, table, explained("ECE")])
