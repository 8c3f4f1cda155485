"""Figures of training: losses, validations, growths of dendrites, and the weights of DAO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from dao.learner.basics.numbers import number
from dao.learner.experiment.findings.runs import Run, Runs, labels
from dao.learner.experiment.pictures.figures import INK, NARROW, Panel, arm_style, task_style

__all__ = ["dao_panels", "growth_marks", "loss_panels", "losses_panel", "validation_panels"]

GROWN = "dendrites added"
BINS = 40  # points of a curve of losses; single steps are noise
WIDE = (NARROW[0], 3.8)
BALANCED = ("dao", "dao+dendrites", "dao-paper")


def loss_panels(runs: Runs, tasks: Iterable[str]) -> list[Panel]:
    """Training loss of each task over the steps: per arm, the mean over seeds and their range."""
    panels = []
    for task in tasks:
        curves = {arm: _losses(seeds.values(), task) for arm, seeds in runs.items()}
        if any(curves.values()):
            panels.append(
                _panel(f"Training loss of {task}", curves, "loss, as trained (no unit)", runs)
            )
    return panels


def losses_panel(run: Run, tasks: Sequence[str]) -> Panel | None:
    """Training losses of all tasks of one run over the steps; None without a history."""
    curves = {task: curve for task in tasks if (curve := _losses([run], task))}
    if not curves:
        return None
    told = "; ".join(f"{task} ends at {number(c[-1].mean)}" for task, c in curves.items())
    return Panel(
        partial(_draw_losses, curves=curves),
        f"Training losses of {len(curves)} tasks over training steps. {told}.",
        WIDE,
    )


def _draw_losses(axes: Axes, curves: Mapping[str, Curve]) -> None:
    for index, (task, curve) in enumerate(curves.items()):
        axes.plot([p.step for p in curve], [p.mean for p in curve], label=task, **task_style(index))
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_title("Training losses")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss, as trained (no unit)")


def validation_panels(
    runs: Runs,
    findings: Mapping[str, Any],
    metrics: Iterable[str],
    kept: Mapping[str, Sequence[int]] | None = None,
) -> list[Panel]:
    """Each validation figure over the steps: per arm, the mean over seeds and their range.

    Args:
        runs: by arm and seed.
        findings: with `metrics` and `tasks`.
        metrics: which figures.
        kept: further marks: what happened -> after which steps.
    """
    panels = []
    for metric in metrics:
        about = findings["metrics"][metric]
        curves = {
            arm: _validated(seeds.values(), about["task"], about["key"])
            for arm, seeds in runs.items()
            if about["task"] is not None or arm not in findings["tasks"]
        }
        if any(curves.values()):
            unit = f" ({about['unit']})" if about["task"] else ""
            name = f"{about['label']}{unit}"
            panels.append(_panel(f"Validation: {about['label']}", curves, name, runs, kept))
    return panels


class Point(NamedTuple):
    """A point of a curve: a step, and mean, lowest and highest of the figure over seeds."""

    step: float
    mean: float
    low: float
    high: float
    seeds: int


Curve = Sequence[Point]


def _panel(
    title: str,
    curves: Mapping[str, Curve],
    name: str,
    runs: Runs,
    further: Mapping[str, Sequence[int]] | None = None,
) -> Panel:
    shown = {arm: curve for arm, curve in curves.items() if curve}
    names = labels(runs)
    told = "; ".join(f"{names[a]} ends at {number(curve[-1].mean)}" for a, curve in shown.items())
    marks = {**growth_marks({arm: runs[arm] for arm in shown}), **(further or {})}
    marked = "".join(
        f" {words[0].upper()}{words[1:]}: after step {', '.join(map(str, steps))}."
        for words, steps in marks.items()
    )
    return Panel(
        partial(_draw_curves, curves=shown, name=name, title=title, marks=marks, names=names),
        f"{title} over training steps. {told}.{marked}",
        WIDE,
    )


def growth_marks(runs: Runs) -> dict[str, list[int]]:
    """The steps after which arms grew dendrites; arms that restart without any have none.

    Arms with the same steps share an entry. The entry names these arms unless they are all of
    `runs`.

    Returns:
        What happened, and in which arms -> the steps.
    """
    arms_at: dict[tuple[int, ...], list[str]] = {}
    for arm, seeds in runs.items():
        grown = [run for run in seeds.values() if run.config.dendrites.grown]
        steps = {row["step"] for run in grown for row in run.validations if row.get("grown")}
        if steps:
            arms_at.setdefault(tuple(sorted(steps)), []).append(arm)
    names = labels(runs)
    return {
        GROWN
        + (f" in {', '.join(names[arm] for arm in arms)}" if len(arms) < len(runs) else ""): list(
            steps
        )
        for steps, arms in arms_at.items()
    }


def _draw_curves(
    axes: Axes,
    curves: Mapping[str, Curve],
    name: str,
    title: str,
    marks: Mapping[str, Sequence[int]],
    names: Mapping[str, str],
) -> None:
    banded = False
    for arm, curve in curves.items():
        style = arm_style(arm)
        marker = style.pop("marker") if len(curve) < BINS // 2 else style.pop("marker") and None
        axes.plot([p.step for p in curve], [p.mean for p in curve], marker=marker,
                  label=names[arm] if len(curves) > 1 else None, **style)  # fmt: skip
        known = [(p.step, p.low, p.high) for p in curve if p.seeds > 1]
        if known:
            places, low, high = zip(*known, strict=True)
            axes.fill_between(places, low, high, color=style["color"], alpha=0.13, linewidth=0)
            banded = True
    for index, (words, steps) in enumerate(marks.items()):
        _mark(axes, words, steps, index)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_title(title)
    band = "\nline: mean over seeds; band: lowest to highest seed" if banded else ""
    axes.set_xlabel(f"optimizer step{band}")
    axes.set_ylabel(name)


def _mark(axes: Axes, words: str, steps: Sequence[int], index: int) -> None:
    """Lines across the axes; what happened stands beside the first, the legend has the arms."""
    for step in steps:
        dashes = (2 + 2 * index, 2)  # arms that grow at other steps have longer dashes
        axes.axvline(step, color=INK, linewidth=1, dashes=dashes,
                     label=words if " in " in words else None)  # fmt: skip
    below = index > 0  # so that what is said of one mark is not written over another
    axes.annotate(
        words.partition(" in ")[0], (steps[0], 0.02 if below else 0.98),
        xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points", rotation=90,
        ha="right", va="bottom" if below else "top", fontsize=7.5, color=INK,
    )  # fmt: skip


def _validated(runs: Iterable[Run], task: str | None, key: str) -> list[Point]:
    """A point per validation: the first of all seeds, then the second; their steps may differ."""
    found: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        for index, row in enumerate(run.validations):
            value = row.get("score") if task is None else row["metrics"].get(task, {}).get(key)
            if value is not None:
                found.setdefault(index, []).append((row["step"], value))
    return [_point(pairs) for _, pairs in sorted(found.items())]


def _losses(runs: Iterable[Run], task: str) -> list[Point]:
    """The mean loss of a seed in each bin of steps, then mean and range over seeds."""
    seeds = [
        [(row["step"], loss) for row in run.history
         if (loss := row["tasks"].get(task, {}).get("loss")) is not None]
        for run in runs
    ]  # fmt: skip
    width = max(1, round(max((step for rows in seeds for step, _ in rows), default=0) / BINS))
    found: dict[int, list[tuple[float, float]]] = {}
    for rows in seeds:
        binned: dict[int, list[float]] = {}
        for step, loss in rows:
            binned.setdefault((step - 1) // width, []).append(loss)
        for place, losses in binned.items():
            # The middle of the bin stands for its steps.
            middle = place * width + (width + 1) / 2
            found.setdefault(place, []).append((middle, float(np.mean(losses))))
    return [_point(pairs) for _, pairs in sorted(found.items())]


def _point(pairs: Sequence[tuple[float, float]]) -> Point:
    steps, values = np.array(pairs, dtype=float).T
    ends = float(values.min()), float(values.max())
    return Point(float(steps.mean()), float(values.mean()), *ends, len(values))


def dao_panels(runs: Runs, tasks: Sequence[str], arms: Sequence[str] = BALANCED) -> list[Panel]:
    """Loss weights and gradient norms over the steps, by default in the arms that DAO balances."""
    panels = []
    for arm in arms:
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
    every = max(1, len(found) // 200)  # further points would make the file larger, unseen
    steps = sorted(found)[::every]
    return [(s, float(np.mean(found[s])), min(found[s]), max(found[s])) for s in steps]


def _draw_bands(axes: Axes, bands: Mapping[str, Band], name: str, title: str) -> None:
    for index, (task, band) in enumerate(bands.items()):
        step, mean, low, high = zip(*band, strict=True)
        style = task_style(index)
        axes.fill_between(step, low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.plot(step, mean, label=task, **style)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.set_title(title)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(name)
