"""Forest plots: differences with their intervals, one row each, a panel per figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from dao.learner.basics.numbers import number
from dao.learner.experiment.arms import label
from dao.learner.experiment.findings.statistics import Interval
from dao.learner.experiment.pictures.effect_figures import improvements
from dao.learner.experiment.pictures.figures import INK, NARROW, Panel, head

__all__ = ["arm_forests", "pair_forests", "reference_of"]

WIDEST = 20
"""Characters of a row's name in one line."""
ROOM = 0.12  # of the range, on either side
POINT = "#0072B2"


class Row(NamedTuple):
    """A difference; above 0 is better."""

    name: str
    mean: float
    interval: Interval | None


def reference_of(findings: Mapping[str, Any]) -> str:
    """The arm that others are compared with: base where there is one, else the first."""
    return "base" if "base" in findings["arms"] else next(iter(findings["arms"]))


def arm_forests(findings: Mapping[str, Any], metrics: Sequence[str]) -> list[Panel]:
    """Each arm's paired difference from the reference arm, one panel per metric."""
    reference, panels = reference_of(findings), []
    for metric in metrics:
        found = improvements(findings, metric, reference)
        rows = [
            Row(label(arm, findings["tasks"]), mean, interval)
            for arm, (mean, interval, _) in found.items()
        ]
        panels.append(_panel(rows, findings["metrics"][metric], f"better than {reference}"))
    return [panel for panel in panels if panel]


def pair_forests(findings: Mapping[str, Any], metrics: Sequence[str]) -> list[Panel]:
    """Each tested pair of arms, the first minus the second, one panel per metric."""
    panels = []
    for metric in metrics:
        about = findings["metrics"][metric]
        sign = 1.0 if about["better"] == "higher" else -1.0
        rows = []
        for effect in findings["effects"]:
            if effect["metric"] != metric or effect.get("mean") is None:
                continue
            bounds = effect.get("t95")
            known = bounds and None not in bounds
            ends = tuple(sorted(sign * bound for bound in bounds)) if known else None
            rows.append(Row(effect["name"], sign * effect["mean"], ends))
        panels.append(_panel(rows, about, "the first is better"))
    return [panel for panel in panels if panel]


def _panel(rows: Sequence[Row], about: Mapping[str, Any], better: str) -> Panel | None:
    if not rows:
        return None
    names = [textwrap.fill(row.name, WIDEST) for row in rows]
    lines = sum(name.count("\n") + 1 for name in names)
    told = "; ".join(f"{row.name} {_told(row)}" for row in rows)
    return Panel(
        partial(_draw, rows=rows, names=names, about=about, better=better),
        f"{about['label']}: differences with 95 % intervals; above 0 is {better}. {told}.",
        (NARROW[0], 0.95 + 0.22 * max(lines, 3)),
    )


def _told(row: Row) -> str:
    mean = number(row.mean, signed=True)
    if row.interval is None:
        return mean
    low, high = (number(bound, signed=True) for bound in row.interval)
    return f"{mean} ({low} to {high})"


def _draw(
    axes: Axes, rows: Sequence[Row], names: Sequence[str], about: Mapping[str, Any], better: str
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    shown = [0.0]
    for place, row in enumerate(rows):
        if row.interval:
            axes.plot(row.interval, [place, place], color=POINT, linewidth=2)
            shown += row.interval
        axes.plot([row.mean], [place], "o", color=POINT, markersize=6)
        shown.append(row.mean)
    low, high = min(shown), max(shown)
    room = (high - low) * ROOM or 1.0
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    unit = f" ({about['unit']})" if about["task"] else ""
    head(axes, f"{about['label']}{unit}")
    axes.set_xlabel(f"{better} \N{RIGHTWARDS ARROW}")
