"""The tables of a planned experiment's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from dao.learner.basics.wording import listed
from dao.learner.dendrites.share import percent
from dao.learner.experiment.findings.contrasts import main_figures, only_tested
from dao.learner.experiment.pages.page import PageTable, Part, Text
from dao.learner.experiment.plans.report.cells import (
    PERCENT,
    Table,
    figure_cell,
    row_name,
    runs_of,
    shown,
    spread_cell,
)
from dao.learner.experiment.report.tables import column, interval, number, p_value

__all__ = [
    "FEW",
    "apart_table",
    "changes_table",
    "group_tables",
    "pairs_table",
    "parts_tables",
    "took_table",
]

FEW = 2
"""Tasks up to which a table has every tested figure; beyond, it has the main one of each task."""
MEAN = "mean over seeds \N{PLUS-MINUS SIGN} half of the 95 % t interval"


def pairs_table(findings: Mapping[str, Any]) -> PageTable | None:
    """Every pair in every tested figure; None without pairs."""

    def unit(metric: str) -> str:
        return str(findings["metrics"][metric]["unit"])

    rows = [
        [
            effect["name"],
            column(findings["metrics"][effect["metric"]]),
            str(effect["n"]),
            shown(effect["mean"], unit(effect["metric"]), signed=True),
            interval(effect["t95"], signed=True),
            p_value(effect["p_holm"]),
            shown(effect["detectable"], unit(effect["metric"])),
            effect["verdict"],
        ]
        for effect in findings["effects"]
    ]
    head = (
        "pair", "figure", "seeds", "difference", "95 % t interval", "Holm p", "detectable",
        "verdict",
    )  # fmt: skip
    caption = "Differences at the same seed, test split"
    return PageTable(caption, head, rows) if rows else None


def group_tables(findings: Mapping[str, Any], group: Mapping[str, Any]) -> list[Part]:
    """The figures of the rows of a group: main ones, and the others behind them."""
    metrics = findings["metrics"]
    whole = [m for m, about in metrics.items() if about["task"] is None]
    few = len(findings["tasks"]) <= FEW
    of_tasks = list(only_tested(metrics)) if few else list(main_figures(metrics).values())
    first = [*whole, *(m for m in of_tasks if m not in whole)]
    rest = [metric for metric in metrics if metric not in first]
    head, rows = _with_ranks(findings, group, first)
    parts: list[Part] = [PageTable(f"Test split: {MEAN}", head, rows)]
    if rest:
        head, rows = _figures(findings, group["rows"], rest)
        caption = f"Other figures on the test split: {MEAN}"
        parts.append(PageTable(caption, head, rows))
    if (apart := apart_table(findings, group)) is not None:
        parts.append(apart)
    return parts


def _figures(
    findings: Mapping[str, Any], names: Sequence[str], metrics: Sequence[str]
) -> tuple[list[str], Table]:
    """Rows in some figures, and the plain models below the rows of the first group."""
    rows, about = [], findings["metrics"]
    for row in names:
        content = findings["arms"].get(row, {"mean": {}, "t95": {}})
        cells = [
            figure_cell(content["mean"].get(m), content["t95"].get(m), about[m]["unit"])
            for m in metrics
        ]
        rows.append([row_name(row, findings), *cells])
    first = findings["groups"][0]["rows"] == names
    plain = {**findings["baselines"]} if first else {}
    if first and findings["best_reachable"]:
        plain["best reachable (noise of known size)"] = findings["best_reachable"]
    for name, values in plain.items():
        cells = ["" if values.get(m) is None else number(values[m]) for m in metrics]
        if any(cells):
            rows.append([f"({name})", *cells])
    return ["arm", *(column(findings["metrics"][metric]) for metric in metrics)], rows


def _with_ranks(
    findings: Mapping[str, Any], group: Mapping[str, Any], metrics: Sequence[str]
) -> tuple[list[str], Table]:
    """The same with the mean rank and the worst task of each row, where they are known."""
    head, rows = _figures(findings, group["rows"], metrics)
    further = {
        "mean rank \N{DOWNWARDS ARROW}": {r: f"{v:.2f}" for r, v in group["ranks"].items()},
        "worst task": {row: cell for row in group["rows"] if (cell := _worst(findings, row))},
    }
    for name, cells in further.items():
        if cells:
            head = [*head, name]
            named = [*(cells.get(row, "") for row in group["rows"]), *[""] * len(rows)]
            rows = [[*row, cell] for row, cell in zip(rows, named, strict=False)]
    return head, rows


def _worst(findings: Mapping[str, Any], row: str) -> str:
    """The task with the lowest change against it alone."""
    changes = findings["arms"].get(row, {}).get("changes", {})
    known = {task: about["mean"] for task, about in changes.items() if about["mean"] is not None}
    if not known:
        return ""
    task = min(known, key=lambda name: known[name])
    return f"{task} {shown(known[task], PERCENT, signed=True)} %"


def apart_table(findings: Mapping[str, Any], group: Mapping[str, Any]) -> PageTable | None:
    """Each row's differences from the reference of its group; None without a reference."""
    if not group["differences"]:
        return None
    found = {metric for own in group["differences"].values() for metric in own}
    about = findings["metrics"]
    metrics = [metric for metric in about if metric in found]
    rows = [
        [
            row_name(row, findings),
            *(spread_cell(own.get(m), about[m]["unit"], signed=True) for m in metrics),
        ]
        for row, own in group["differences"].items()
    ]
    head = ["arm", *(column(about[metric]) for metric in metrics)]
    caption = f"Difference from {group['reference']} at the same seed, untested: {MEAN}"
    return PageTable(caption, head, rows)


def changes_table(findings: Mapping[str, Any]) -> PageTable | None:
    """Each task's change against the task alone; None where no row has one."""
    tasks = [task for task in findings["tasks"] if task in findings["alone"]]
    changes = {row: about["changes"] for row, about in findings["arms"].items() if about["changes"]}
    rows = [
        [row_name(row, findings), *(spread_cell(of.get(t), PERCENT, signed=True) for t in tasks)]
        for row, of in changes.items()
    ]
    mains = main_figures(findings["metrics"])
    head = ["arm", *(findings["metrics"][mains[task]]["label"] for task in tasks)]
    caption = "Change against each task alone, in percent; above 0 is better"
    return PageTable(caption, head, rows) if rows else None


def parts_tables(findings: Mapping[str, Any], by: Mapping[str, Any]) -> list[Part]:
    """Figures for each value of a column, a row per value and arm, and pairs in the same way."""
    if not by["rows"]:
        return [Text(f"No run has figures by {by['column']}.", quiet=True)]
    parts: list[Part] = []
    for task in findings["tasks"]:
        metrics = [m for m in by["metrics"] if findings["metrics"][m]["task"] == task]
        head = [*(column(findings["metrics"][metric]) for metric in metrics)]
        counts = ", ".join(f"{value} n {n[task]:,}" for value, n in by["n"].items() if task in n)
        plain = {
            f"({name})": {
                value: {m: {"mean": v, "t95": None} for m, v in own.items()}
                for value, own in values.items()
            }
            for name, values in by["plain"].items()
        }
        figures = _by_value({**by["rows"], **plain}, by, metrics, findings)
        caption = f"{task} by {by['column']} ({counts}): {MEAN}"
        parts.append(PageTable(caption, [f"{by['column']}: arm", *head], figures))
        apart = _by_value(by["differences"], by, metrics, findings, signed=True)
        if apart:
            caption = f"{task} by {by['column']}: differences at the same seed, untested"
            parts.append(PageTable(caption, [f"{by['column']}: pair", *head], apart))
    return parts


def _by_value(
    found: Mapping[str, Mapping[str, Any]],
    by: Mapping[str, Any],
    metrics: Sequence[str],
    findings: Mapping[str, Any],
    *,
    signed: bool = False,
) -> Table:
    rows = []
    for value in by["n"]:
        for name, of in found.items():
            cells = [spread_cell(of.get(value, {}).get(m), signed=signed) for m in metrics]
            if any(cells):
                label = row_name(name, findings) if name in findings["arms"] else name
                rows.append([f"{value}: {label}", *cells])
    return rows


def took_table(findings: Mapping[str, Any]) -> PageTable:
    """Runs, steps, time, learning rate and parameters of each arm, and what dendrites it kept."""
    head = ["arm", "runs", "steps", "seconds a run", "learning rate", "trained parameters"]
    further: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "sets of dendrites kept": _kept,
        "their share of the output, median of each set": _shares,
    }
    arms = {row: a for row, a in findings["arms"].items() if row not in findings["choices"]}
    columns = {n: [of(a) for a in arms.values()] for n, of in further.items()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    rows = []
    for place, (row, about) in enumerate(arms.items()):
        low, high = about["steps_of_runs"]
        rows.append([
            row,
            str(runs_of(row, findings)),
            f"{low:,}" if low == high else f"{low:,} to {high:,}",
            f"{fmean(about['seconds'].values()):,.1f}",
            f"{about['lr']:g}",
            f"{about['parameters']:,}",
            *(cells[place] for cells in columns.values()),
        ])  # fmt: skip
    return PageTable("What the runs took, mean over seeds", [*head, *columns], rows)


def _kept(about: Mapping[str, Any]) -> str:
    kept = about["dendrites_kept"]
    return f"{fmean(kept.values()):.1f}" if kept else ""


def _shares(about: Mapping[str, Any]) -> str:
    return listed([percent(of["median"]) for of in about["output_shares_of_sets"]])
