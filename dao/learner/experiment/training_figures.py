"""Figures of training: losses, validations with the growths, and what DAO did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dao.learner.experiment.arms import label
from dao.learner.experiment.figures import INK, NARROW, Panel, arm_style
from dao.learner.experiment.runs import Run, Runs
from dao.numbers import number

__all__ = ["dao_panels", "loss_panels", "validation_panels"]

BINS = 40  # points of a curve of losses; single steps are noise
WIDE = (NARROW[0], 3.8)
TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def loss_panels(runs: Runs, tasks: Iterable[str]) -> list[Panel]:
    """Training loss of each task over the steps, the mean over seeds, one line per arm."""
    return [
        _panel(
            f"Training loss of {task}",
            {arm: _steps(seeds.values(), task, "loss", BINS) for arm, seeds in runs.items()},
            "loss, as trained (no unit)",
            runs,
        )
        for task in tasks
        if any(_steps(seeds.values(), task, "loss", BINS) for seeds in runs.values())
    ]


def validation_panels(
    runs: Runs, findings: Mapping[str, Any], metrics: Iterable[str]
) -> list[Panel]:
    """A figure on the validation split over the steps, the mean over seeds, one line per arm."""
    panels = []
    for metric in metrics:
        about = findings["metrics"][metric]
        curves = {
            arm: _mean_by_step(
                [
                    (row["step"], row["metrics"][about["task"]].get(metric))
                    for run in seeds.values()
                    for row in run.validations
                    if about["task"] in row["metrics"]
                ]
            )
            for arm, seeds in runs.items()
        }
        if any(curves.values()):
            name = f"{about['label']} ({about['unit']})"
            panels.append(_panel(f"Validation: {about['label']}", curves, name, runs))
    return panels


Curve = Sequence[tuple[float, float]]


def _panel(title: str, curves: Mapping[str, Curve], name: str, runs: Runs) -> Panel:
    shown = {arm: curve for arm, curve in curves.items() if curve}
    told = "; ".join(f"{label(a)} ends at {number(curve[-1][1])}" for a, curve in shown.items())
    growths = sorted(
        {s for seeds in runs.values() for run in seeds.values() for s in _growths(run)}
    )
    marked = f" Growth or restart after step {', '.join(map(str, growths))}." if growths else ""
    return Panel(
        partial(_draw_curves, curves=shown, name=name, title=title, growths=growths),
        f"{title} over training steps. {told}.{marked}",
        WIDE,
    )


def _growths(run: Run) -> list[int]:
    return [row["step"] for row in run.validations if row.get("grown")]


def _draw_curves(
    axes: Axes, curves: Mapping[str, Curve], name: str, title: str, growths: Sequence[int]
) -> None:
    for arm, curve in curves.items():
        style = arm_style(arm)
        marker = style.pop("marker") if len(curve) < BINS // 2 else style.pop("marker") and None
        x, y = zip(*curve, strict=True)
        axes.plot(x, y, marker=marker, label=label(arm), **style)
    for step in growths:
        axes.axvline(step, color=INK, linewidth=1, dashes=(2, 2), label="growth or restart")
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_title(title)
    axes.set_xlabel("training step (batches)")
    axes.set_ylabel(name)


def _mean_by_step(points: Iterable[tuple[float, float | None]]) -> list[tuple[float, float]]:
    found: dict[float, list[float]] = {}
    for step, value in points:
        if value is not None:
            found.setdefault(step, []).append(value)
    return [(step, float(np.mean(values))) for step, values in sorted(found.items())]


def _steps(runs: Iterable[Run], task: str, field: str, bins: int) -> list[tuple[float, float]]:
    points = [
        (row["step"], row["tasks"][task].get(field))
        for run in runs
        for row in run.history
        if task in row["tasks"]
    ]
    if not points:
        return []
    width = max(1, round(max(step for step, _ in points) / bins))
    # The middle of its bin stands for a step.
    middles = [((s - 1) // width * width + (width + 1) / 2, value) for s, value in points]
    return _mean_by_step(middles)


def dao_panels(runs: Runs, tasks: Sequence[str]) -> list[Panel]:
    """Loss weights and gradient norms over the steps in the arms that DAO balances."""
    panels = []
    for arm in ("dao", "dao+dendrites", "dao-paper"):
        if arm not in runs:
            continue
        for field, what, unit in (
            ("weight", "loss weight", "(no unit)"),
            ("norm", "gradient norm", "(loss per unit of weight)"),
        ):
            bands = {task: _band(runs[arm].values(), task, field) for task in tasks}
            bands = {task: band for task, band in bands.items() if band}
            if not bands:
                continue
            ends = {t: [number(b[i][1], decimals=3) for i in (0, -1)] for t, b in bands.items()}
            told = "; ".join(f"{task} {first} to {last}" for task, (first, last) in ends.items())
            panels.append(
                Panel(
                    partial(
                        _draw_bands, bands=bands, name=f"{what} {unit}", title=f"{arm}: {what}s"
                    ),
                    f"{arm}: {what}s over training steps, first to last. {told}.",
                )
            )
    return panels


Band = Sequence[tuple[float, float, float, float]]


def _band(runs: Iterable[Run], task: str, field: str) -> Band:
    found: dict[int, list[float]] = {}
    for run in runs:
        for row in run.history:
            value = row["tasks"].get(task, {}).get(field)
            if value is not None:
                found.setdefault(row["step"], []).append(value)
    every = max(1, len(found) // 200)  # more points than pixels only weigh
    steps = sorted(found)[::every]
    return [(s, float(np.mean(found[s])), min(found[s]), max(found[s])) for s in steps]


def _draw_bands(axes: Axes, bands: Mapping[str, Band], name: str, title: str) -> None:
    for index, (task, band) in enumerate(bands.items()):
        step, mean, low, high = zip(*band, strict=True)
        colour = TASK_COLOURS[index % len(TASK_COLOURS)]
        dash = ("-", "--", "-.", ":")[index % 4]
        axes.fill_between(step, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(step, mean, dash, color=colour, label=task)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_title(title)
    axes.set_xlabel("training step (batches)")
    axes.set_ylabel(name)
