"""Figures that compare arms: effects, improvements, and quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dao.learner.basics.numbers import number
from dao.learner.experiment.arms import label
from dao.learner.experiment.findings.statistics import Interval, t_interval
from dao.learner.experiment.pictures.figures import INK, NARROW, Panel, arm_style

__all__ = ["cost_panels", "effect_panels", "improvement_panels", "improvements"]

SIGNIFICANT = "significant after Holm"
BCA: Mapping[str, Any] = {"color": "#56B4E9", "linewidth": 6.0, "zorder": 2}
T: Mapping[str, Any] = {"color": INK, "linewidth": 1.2, "marker": "|", "zorder": 2.5}
HEADROOM = 0.15  # of the range, so that no interval touches the frame


def effect_panels(findings: Mapping[str, Any], metrics: Sequence[str]) -> list[Panel]:
    """Every effect and contrast of a metric with its two intervals, one panel per metric."""
    panels = []
    for metric in metrics:
        effects = [e for e in findings["effects"] if e["metric"] == metric and _known(e)]
        if not effects:
            continue
        about = findings["metrics"][metric]
        told = "; ".join(
            f"{e['name']} {number(e['mean'], signed=True)}, {e['verdict']}" for e in effects
        )
        panels.append(
            Panel(
                partial(_draw_effects, effects=effects, about=about),
                f"Effects on {about['label']} with 95 % intervals. {told}.",
                (NARROW[0], 1.5 + 0.27 * max(len(effects), 3)),
            )
        )
    return panels


def _known(effect: Mapping[str, Any]) -> bool:
    return effect.get("mean") is not None


def _draw_effects(
    axes: Axes, effects: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    shown: list[float] = [0.0]
    for row, effect in enumerate(effects):
        for name, bounds, style in (
            ("95 % BCa interval", effect.get("bca95"), BCA),
            ("95 % t interval", effect.get("t95"), T),
        ):
            if bounds and None not in bounds:
                axes.plot(bounds, [row, row], label=name, **style)
                shown += bounds
        found = bool(effect.get("significant"))
        axes.plot(
            [effect["mean"]], [row], "o", markersize=6, zorder=3, markeredgecolor="#D55E00",
            markerfacecolor="#D55E00" if found else "white",
            label=SIGNIFICANT if found else effect["verdict"],
        )  # fmt: skip
        shown.append(effect["mean"])
    axes.set_yticks(range(len(effects)), [e["name"] for e in effects])
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlim(*_widened(shown))
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("effect")
    axes.set_title(about["label"])
    better = "right" if about["better"] == "higher" else "left"
    axes.set_xlabel(f"difference in {_with_unit(about)}\n{better} is better")


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * HEADROOM or 1.0
    return low - room, high + room


def _with_unit(about: Mapping[str, Any]) -> str:
    return f"{about['label']} ({about['unit']})"


def improvements(
    findings: Mapping[str, Any], metric: str, reference: str = "base"
) -> dict[str, tuple[float, Interval | None, int]]:
    """Paired differences of each arm from the reference arm; a better arm has a positive one.

    Args:
        findings: of the experiment.
        metric: which figure.
        reference: the arm to subtract.

    Returns:
        By arm: mean difference, its 95 % t interval (None for fewer than two common seeds), and
        the number of common seeds.
    """
    sign = 1.0 if findings["metrics"][metric]["better"] == "higher" else -1.0
    values = {a: arm["values"].get(metric, {}) for a, arm in findings["arms"].items()}
    ground = values.pop(reference, {})
    found = {}
    for arm, mine in values.items():
        common = [s for s in mine if mine[s] is not None and ground.get(s) is not None]
        differences = sign * np.array([mine[s] - ground[s] for s in common])
        if len(common) > 0:
            found[arm] = (float(differences.mean()), t_interval(differences), len(common))
    return found


def improvement_panels(findings: Mapping[str, Any], metrics: Sequence[str]) -> list[Panel]:
    """Bars of each arm's improvement over the base arm, one panel per metric."""
    panels, names = [], _names(findings)
    for metric in metrics:
        found = improvements(findings, metric)
        if not found:
            continue
        about = findings["metrics"][metric]
        told = "; ".join(
            f"{names[arm]} {number(mean, signed=True)}" for arm, (mean, _, _) in found.items()
        )
        panels.append(
            Panel(
                partial(_draw_improvements, found=found, about=about, names=names),
                f"Mean improvement in {about['label']} over base, paired by seed. {told}.",
            )
        )
    return panels


def _names(findings: Mapping[str, Any]) -> dict[str, str]:
    """Arm -> what readers see in its place."""
    return {arm: label(arm, findings["tasks"]) for arm in findings["arms"]}


def _draw_improvements(
    axes: Axes,
    found: Mapping[str, tuple[float, Interval | None, int]],
    about: Mapping[str, Any],
    names: Mapping[str, str],
) -> None:
    for place, (arm, (mean, interval, _)) in enumerate(found.items()):
        axes.bar(place, mean, width=0.65, color=arm_style(arm)["color"])
        if interval:
            axes.plot([place, place], interval, color=INK, linewidth=1.4)
            axes.plot([place] * 2, interval, "_", color=INK, markersize=8)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(found)), [names[arm] for arm in found], rotation=35, ha="right")
    axes.set_xlim(-0.7, max(len(found), 4) - 0.3)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"{about['label']}: improvement over base")
    axes.set_xlabel("arm")
    axes.set_ylabel(f"improvement in {_with_unit(about)}")


def cost_panels(
    findings: Mapping[str, Any],
    metrics: Sequence[str],
    costs: Mapping[str, Mapping[str, float]],
) -> list[Panel]:
    """Each arm's mean quality against its mean cost, one panel per metric and cost.

    Args:
        findings: of the experiment.
        metrics: which figures.
        costs: label of the cost with its unit -> arm -> mean cost.
    """
    panels, names = [], _names(findings)
    for metric in metrics:
        about = findings["metrics"][metric]
        for name, by_arm in costs.items():
            points = {
                arm: (cost, content["mean"][metric], content.get("t95", {}).get(metric))
                for arm, content in findings["arms"].items()
                if (cost := by_arm.get(arm)) is not None
                and content.get("mean", {}).get(metric) is not None
            }
            if not points:
                continue
            told = "; ".join(f"{names[a]} {x:,.0f}, {number(y)}" for a, (x, y, _) in points.items())
            panels.append(
                Panel(
                    partial(_draw_cost, points=points, name=name, about=about, names=names),
                    f"{about['label']} against {name} of each arm. {told}.",
                )
            )
    return panels


def _draw_cost(
    axes: Axes,
    points: Mapping[str, tuple[float, float, Sequence[float] | None]],
    name: str,
    about: Mapping[str, Any],
    names: Mapping[str, str],
) -> None:
    for arm, (cost, mean, interval) in points.items():
        style = arm_style(arm)
        axes.plot(
            [cost], [mean], style["marker"], color=style["color"], markersize=8, label=names[arm]
        )
        if interval and None not in interval:
            axes.plot([cost, cost], interval, color=style["color"], linewidth=1.2)
    low, high = axes.get_xlim()
    axes.set_xlim(max(0.0, low - 0.1 * (high - low)), high + 0.1 * (high - low))
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.set_title(f"{about['label']} against {name.split(' (')[0]}")
    axes.set_xlabel(name)
    axes.set_ylabel(_with_unit(about))
