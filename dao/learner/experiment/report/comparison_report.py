"""What `dao compare` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from dao.learner.basics.limits import ACROSS, TOGETHER
from dao.learner.basics.numbers import aligned
from dao.learner.basics.tables import titled
from dao.learner.console.command import show_tables
from dao.learner.experiment.findings.comparison import compare
from dao.learner.experiment.findings.verdicts import NO_DIFFERENCE, NOT_TESTED
from dao.learner.experiment.report.tables import column

__all__ = ["comparison_lines", "comparison_tables", "print_comparison"]

WORDS = ("A - B", "test", "verdict")  # headings of columns that hold text


def print_comparison(a: Path, b: Path, style: str) -> None:
    """Compare two runs or folders of runs, as `terminal` tables, `markdown` or `json`."""
    found = compare(a, b)
    show_tables(found, comparison_tables(found), comparison_lines(found), style)


def comparison_tables(found: Mapping[str, Any]) -> list[Table]:
    """Tables: test figures of both sides, differences over several seeds, differences over rows."""
    about = found["metrics"]
    labels = {m: column(described) for m, described in about.items()}
    columns = [aligned([found[name]["mean"][metric] for name in "ab"]) for metric in about]
    sides = [_side(name, found[name]) for name in "ab"]
    tasks = {described["task"] for described in about.values()} - {None}
    if len(tasks) > TOGETHER or len(about) > ACROSS:
        figures = titled("test", ["", *sides])
        for label, cells in zip(labels.values(), columns, strict=True):
            figures.add_row(label, *cells)
    else:
        figures = titled("test", ["", *labels.values()])
        for place, side in enumerate(sides):
            figures.add_row(side, *(column[place] for column in columns))
    tables = [figures]
    if found["effects"]:
        heads = ["A - B", "n", "mean", "t 95 %", "BCa 95 %", "p t", "p Holm", "p permutation"]
        tables.append(titled("over seeds, paired", [*heads, "detectable", "verdict"], WORDS))
        for test in found["effects"]:
            shown = _with_intervals(test["mean"], test["t95"], test["bca95"])
            ps = map(_p, (test["p_t"], test["p_holm"], test["p_permutation"]))
            numbers = [str(test["n"]), *shown, *ps, *aligned([test["detectable"]])]
            tables[-1].add_row(labels[test["metric"]], *numbers, _verdict(test["verdict"]))
    heads = ["A - B", "test", "n", "mean", "95 %", "p", "p Holm", "verdict"]
    tables.append(titled("over test rows, paired", heads, WORDS))
    for test in found["per_example"]:
        about_test = [test["label"], test["test"], str(test["n"])]
        shown = _with_intervals(test["estimate"], test["interval95"])
        ps = map(_p, (test["p"], test["p_holm"]))
        tables[-1].add_row(*about_test, *shown, *ps, _verdict(test["verdict"]))
    return tables


def _side(name: str, side: Mapping[str, Any]) -> str:
    seeds = f"seed{'s' * (len(side['seeds']) > 1)} {', '.join(map(str, side['seeds']))}"
    return f"{name.upper()}: {side['arm']}, {seeds}"


def comparison_lines(found: Mapping[str, Any]) -> list[str]:
    """Lines: the paths of both sides, the settings in which they differ, notes and methods."""
    lines = [f"{name.upper()}: {found[name]['path']}" for name in ("a", "b")]
    apart = [f"{key} {a} / {b}" for key, (a, b) in found["settings"].items()]
    lines.append(f"settings that differ (A / B): {'; '.join(apart) or 'none'}")
    return [*lines, *found["notes"], *found["method"]]


def _verdict(words: str) -> str:
    """A verdict with its side, `A is ...`; a verdict of no difference, or no test, as it is."""
    return words if words in (NO_DIFFERENCE, NOT_TESTED) else f"A is {words}"


def _with_intervals(estimate: float | None, *intervals: Sequence[float] | None) -> list[str]:
    """A difference and its intervals, all with equally many decimals."""
    ends = [end for bounds in intervals for end in bounds or (None, None)]
    first, *shown = aligned([estimate, *ends], signed=True)
    pairs = zip(shown[::2], shown[1::2], strict=True)
    return [first, *(f"{low} to {high}" if low and high else "" for low, high in pairs)]


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< .0001" if value < 1e-4 else f"{value:.4f}".removeprefix("0")
