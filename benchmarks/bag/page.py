"""The page of the study: figures per arm, and differences that are paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bag.training import ARMS
from benchmarks.frozen.numbers import cell
from benchmarks.frozen.pages import plan_lines, table_head
from dao.learner.experiment.findings.statistics import holm, paired
from dao.learner.storage.files import write_atomically

__all__ = ["PAIRS", "write_page"]

PAIRS = [
    ("one set", "linear"), ("one set", "faster"), ("one set", "sham"), ("one set", "hidden 8"),
    ("one set x1", "linear"), ("three sets", "one set"), ("three sets", "linear thrice"),
    ("three sets", "faster thrice"), ("three sets", "hidden 16"),
]  # fmt: skip
"""What is compared, decided before the first run."""
Lines = Sequence[Mapping[str, Any]]


def write_page(
    folder: Path, plan: Mapping[str, Any], rates: Mapping[str, float], lines: Lines
) -> None:
    """Write README.md.

    Args:
        folder: of the study.
        plan: as `keep_plan` gave it.
        rates: arm -> the learning rate that it was given.
        lines: of the tested runs, as `training.run` gave them.
    """
    by_arm = {arm: [line for line in lines if line["arm"] == arm] for arm in rates}
    page = [
        "# Where dendrites help: heads on counts of words",
        "",
        "Test figures, means over seeds. ± is half of the 95 % t interval; in the second table of "
        "differences that are paired by seed, bold where it leaves out 0.",
        "",
        *_arms(rates, by_arm, plan),
        "",
        "Score: the mean of accuracy and R². Dendrites' share: the root mean square of what a "
        "dendrite adds, over that of its layer's output, summed over the sets, at the end of the "
        "run; the median over heads and seeds.",
        "",
        *_pairs(by_arm),
        "",
        *plan_lines(plan),
    ]
    write_atomically(folder / "README.md", "\n".join(page) + "\n")


def _rate(rate: float, plan: Mapping[str, Any]) -> str:
    """The rate, and that it is the lowest or the highest of those that were tried."""
    tried = plan["settings"]["rates tried"]
    ends = {min(tried): " (lowest tried)", max(tried): " (highest tried)"}
    return f"{rate:g}{ends.get(rate, '')}"


def _arms(
    rates: Mapping[str, float], by_arm: Mapping[str, Lines], plan: Mapping[str, Any]
) -> list[str]:
    heads = ["arm", "rate", "parameters", "accuracy", "R²", "score", "dendrites' share"]
    rows = [table_head(heads)]
    for arm, runs in by_arm.items():
        accuracy, r2 = ([run["test"][place] for run in runs] for place in (0, 1))
        shares = [sum(sets) for run in runs for sets in run["shares"].values()]
        cells = [
            f"`{arm}`: {ARMS[arm].about}", _rate(rates[arm], plan),
            f"{statistics.median(run['parameters'] for run in runs):,.0f}",
            cell(accuracy, 3), cell(r2, 3), cell([_score(run) for run in runs], 3),
            f"{statistics.median(shares):.0%}" if shares else "",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _pairs(by_arm: Mapping[str, Lines]) -> list[str]:
    differences = {
        (a, b): [_score(x) - _score(y) for x, y in zip(by_arm[a], by_arm[b], strict=True)]
        for a, b in PAIRS
    }
    adjusted = holm([paired(values).p_t for values in differences.values()])
    rows = [table_head(["difference in score", "mean", "p by the t test, Holm over all rows"])]
    for ((a, b), values), p in zip(differences.items(), adjusted, strict=True):
        said = "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"
        rows.append(f"| {a} - {b} | {cell(values, 3, paired=True)} | {said} |")
    return rows


def _score(line: Mapping[str, Any]) -> float:
    return float(sum(line["test"]) / 2)
