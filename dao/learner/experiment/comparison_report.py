"""What `evaluate.py compare` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from dao.learner.command import show_tables
from dao.learner.experiment.comparison import compare
from dao.learner.experiment.tables import column
from dao.learner.experiment.terminal import titled

__all__ = ["comparison_lines", "comparison_tables", "print_comparison"]


def print_comparison(a: Path, b: Path, style: str) -> None:
    """Compare two runs or folders of runs, as `terminal` tables, `markdown` or `json`."""
    found = compare(a, b)
    show_tables(found, comparison_tables(found), comparison_lines(found), style)


def comparison_tables(found: Mapping[str, Any]) -> list[Table]:
    """Test figures of both sides; differences over seeds, where there are several; over rows."""
    about = found["metrics"]
    labels = {m: column(described) for m, described in about.items()}
    figures = titled("test", ["", *labels.values()])
    for name in ("a", "b"):
        side = found[name]
        seeds = f"seed{'s' * (len(side['seeds']) > 1)} {', '.join(map(str, side['seeds']))}"
        means = (_number(side["mean"][metric]) for metric in about)
        figures.add_row(f"{name.upper()}: {side['arm']}, {seeds}", *means)
    tables = [figures]
    if found["effects"]:
        heads = ["A - B", "n", "mean", "t 95 %", "BCa 95 %", "p t", "p Holm", "p permutation"]
        tables.append(titled("over seeds, paired", [*heads, "detectable", "verdict"]))
        for test in found["effects"]:
            intervals = map(_interval, (test["t95"], test["bca95"]))
            ps = map(_p, (test["p_t"], test["p_holm"], test["p_permutation"]))
            numbers = [str(test["n"]), _signed(test["mean"]), *intervals, *ps]
            cells = [labels[test["metric"]], *numbers, _number(test["detectable"])]
            tables[-1].add_row(*cells, test["verdict"])
    heads = ["A - B", "test", "n", "mean", "95 %", "p", "p Holm", "verdict"]
    tables.append(titled("over test rows, paired", heads))
    for test in found["per_example"]:
        shown = [labels[test["metric"]], test["test"], str(test["n"]), _signed(test["estimate"])]
        ps = map(_p, (test["p"], test["p_holm"]))
        tables[-1].add_row(*shown, _interval(test["interval95"]), *ps, test["verdict"])
    return tables


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """Where both are, in which settings they differ, and what to keep in mind."""
    lines = [f"{name.upper()}: {found[name]['path']}" for name in ("a", "b")]
    apart = [f"{key} {a} / {b}" for key, (a, b) in found["settings"].items()]
    lines.append(f"settings that differ (A / B): {'; '.join(apart) or 'none'}")
    return [*lines, *found["notes"], *found["method"]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:+.4f} to {bounds[1]:+.4f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< .0001" if value < 1e-4 else f"{value:.4f}".removeprefix("0")
