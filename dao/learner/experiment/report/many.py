"""Tables of an experiment on many tasks, with a row per figure of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.basics.limits import PICTURED, TOGETHER
from dao.learner.experiment.findings.contrasts import main_figures, only_tested
from dao.learner.experiment.pages.page import PageTable, Part, Text
from dao.learner.experiment.report.tables import (
    arms_table,
    bracketed,
    column,
    effects_table,
    number,
    primary,
)
from dao.learner.scoring.plain_models import best_plain

__all__ = ["arms_parts", "effects_parts"]

ALONE, PLAIN, BEST = "one task alone", "best plain model", "best reachable"


def arms_parts(findings: Mapping[str, Any]) -> list[Part]:
    """Tables of the test figures of all arms: a row per arm, or for many tasks a row per figure."""
    metrics = findings["metrics"]
    interval = "mean over seeds [95 % t interval of the mean]"
    if len(findings["tasks"]) <= TOGETHER:
        parts: list[Part] = [arms_table({**findings, "metrics": only_tested(metrics)})]
        described = [metric for metric in metrics if metric not in only_tested(metrics)]
        if described:
            caption = f"Figures that are described and not tested, on the test split: {interval}"
            parts.append(_by_figure(findings, caption, described))
        return parts
    whole = {m: about for m, about in metrics.items() if about["task"] is None}
    arms = {arm: about for arm, about in findings["arms"].items() if arm not in findings["tasks"]}
    tables: list[Part] = []
    if whole and arms:
        tables.append(arms_table({**findings, "metrics": whole, "arms": arms, "baselines": {},
                                  "best_reachable": {}}))  # fmt: skip
    mains = list(main_figures(metrics).values())
    others = [m for m in metrics if m not in mains and m not in whole]
    tables.append(_by_figure(findings, f"Main figures on the test split: {interval}", mains))
    if others:
        caption = f"Other figures on the test split: {interval}"
        tables.append(_by_figure(findings, caption, others))
    return tables


def _by_figure(findings: Mapping[str, Any], caption: str, metrics: Sequence[str]) -> PageTable:
    """A row per figure of a task; columns: all arms, the task alone, best plain, best reachable."""
    arms = [arm for arm in findings["arms"] if arm not in findings["tasks"]]
    rows = []
    for metric in metrics:
        about = findings["metrics"][metric]
        alone = findings["arms"].get(about["task"])
        plain = {n: {metric: v.get(metric)} for n, v in findings.get("baselines", {}).items()}
        best = best_plain(plain, metric, column(about)[-1])
        reachable = (findings.get("best_reachable") or {}).get(metric)
        rows.append([
            column(about),
            *(_cell(findings["arms"][arm], metric) for arm in arms),
            _cell(alone, metric) if alone else "",
            f"{number(best[1])} ({best[0]})" if best else "",
            "" if reachable is None else number(reachable),
        ])  # fmt: skip
    head = ["figure", *arms, ALONE, PLAIN, BEST]
    kept = [0, *(i for i in range(1, len(head)) if any(row[i] for row in rows))]
    return PageTable(caption, [head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _cell(arm: Mapping[str, Any], metric: str) -> str:
    mean = arm.get("mean", {}).get(metric)
    return "" if mean is None else number(mean) + bracketed(arm.get("t95", {}).get(metric))


def effects_parts(findings: Mapping[str, Any]) -> list[Part]:
    """Tables of all effects and contrasts, one per figure; of many tasks a summary comes first."""
    metrics, tasks = list(only_tested(findings["metrics"])), findings["tasks"]
    if len(tasks) <= TOGETHER:
        return _tables(findings, metrics)
    first = [m for m in metrics if m in primary(findings)]
    others = [m for m in metrics if m not in first]
    parts = _tables(findings, first)
    if summary := _summary(findings, others):
        parts.append(summary)
    if len(tasks) <= PICTURED:
        return parts + _tables(findings, others)
    return [*parts, Text(
        f"Intervals and p-values of the {len(others)} figures of {len(tasks)} tasks are left out: "
        f"findings.json has them, under effects.", quiet=True,
    )]  # fmt: skip


def _tables(findings: Mapping[str, Any], metrics: Sequence[str]) -> list[Part]:
    found = (effects_table(findings, metric) for metric in metrics)
    return [table for table in found if table]


def _summary(findings: Mapping[str, Any], metrics: Sequence[str]) -> PageTable | None:
    """A row per figure, a column per effect."""
    cells: dict[str, dict[str, str]] = {}
    for effect in findings["effects"]:
        if effect["metric"] in metrics:
            task = findings["metrics"][effect["metric"]]["task"]
            name = effect["name"].replace(f"{task} alone", ALONE)
            mark = " *" if effect.get("significant") else ""
            shown = number(effect.get("mean"), signed=True) + mark
            cells.setdefault(effect["metric"], {})[name] = shown
    if not cells:
        return None
    names = list(dict.fromkeys(name for row in cells.values() for name in row))
    rows = [
        [column(findings["metrics"][metric]), *(row.get(name, "") for name in names)]
        for metric, row in cells.items()
    ]
    caption = "Mean paired differences over seeds; * significant after Holm's correction"
    return PageTable(caption, ["figure", *names], rows)
