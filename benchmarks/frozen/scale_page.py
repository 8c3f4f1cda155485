"""The page of `benchmarks.scale`: tables and a figure from the lines of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.frozen.arms import ARMS
from benchmarks.frozen.numbers import cell, significant
from benchmarks.frozen.pages import plan_lines, table_head
from benchmarks.frozen.progress import progress_lines
from dao.learner.experiment.pictures.figures import Panel, png, task_style

__all__ = ["Sweep", "score", "write_page"]

EQUAL, GRID_ROW = "equal", "grid"
TITLES = {"adamw": "AdamW", "sgd": "SGD with momentum"}
DRAWN = ("equal", "uw", "gls", "famo", "norm0", "gradnorm", "upgrad", "dao")
Lines = list[Mapping[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """One table: lines by seed, by row and column.

    Attributes:
        kind: what columns are: factor or steps.
        optimizer: of all runs.
        tuned: whether each row has a rate of its own.
        lines: by row and column.
    """

    kind: str
    optimizer: str
    tuned: bool
    lines: Mapping[tuple[str, float], Lines]

    @property
    def rows(self) -> list[str]:
        """Names of the weightings."""
        return list(dict.fromkeys(row for row, _ in self.lines))

    @property
    def columns(self) -> list[float]:
        """Factors, or steps."""
        return list(dict.fromkeys(column for _, column in self.lines))

    @property
    def title(self) -> str:
        """A heading."""
        what = "by the factor on the loss of the score" if self.kind == "factor" else "by steps"
        how = "a rate per row" if self.tuned else "one rate"
        seeds = len(next(iter(self.lines.values())))
        return f"{TITLES[self.optimizer]}, {what}, {how} ({seeds} seeds)"

    def grid(self) -> Lines:
        """Of the runs of equal weights at all columns, the best by validation, by seed."""
        each = zip(*(self.lines[EQUAL, column] for column in self.columns), strict=True)
        return [max(lines, key=lambda line: _or_least(line["validation"])) for lines in each]


def _or_least(value: float | None) -> float:
    return -np.inf if value is None else value


def score(line: Mapping[str, Any]) -> float:
    """Mean over tasks of accuracy and R2 on test; NaN where no validation was finite."""
    return float(np.mean([pair[1] for pair in line["test"].values()])) if line["test"] else np.nan


def _mean(lines: Lines, task: str) -> float:
    return float(np.mean([line["test"][task][1] if line["test"] else np.nan for line in lines]))


def level_lines(sweep: Sweep) -> list[str]:
    """Accuracy / R2 of every row and column, and how far each moves over the columns."""
    heads = [f"{column:g}" for column in sweep.columns]
    spread = sweep.kind == "factor"
    more = ["moves by"] if spread else []
    lines = [f"### {sweep.title}: accuracy / R²", "", table_head(["weighting", *heads, *more])]
    for row in sweep.rows:
        figures = [[_mean(sweep.lines[row, c], t) for t in ("cls", "reg")] for c in sweep.columns]
        cells = [_pair(pair) for pair in figures]
        lines.append(_row(row, [*cells, *([_pair(np.ptp(figures, axis=0))] if spread else [])]))
    if spread:
        pair = [_mean(sweep.grid(), task) for task in ("cls", "reg")]
        about = f"best of {len(heads)} constants by validation, whatever the factor"
        lines.append(
            f"| `{GRID_ROW}`: {about} | {' | '.join([_pair(pair)] * len(heads))} | 0 / 0 |"
        )
    return [*lines, ""]


def difference_lines(sweep: Sweep) -> list[str]:
    """Mean of accuracy and R2, against equal weights in the same column."""
    heads = [f"{column:g}" for column in sweep.columns]
    title = f"### {sweep.title}: mean of accuracy and R², minus equal weights, x 100"
    lines = [title, "", table_head(["weighting", *heads])]
    worse = []
    for row in (name for name in sweep.rows if name != EQUAL):
        cells = []
        for column, head in zip(sweep.columns, heads, strict=True):
            pairs = zip(sweep.lines[row, column], sweep.lines[EQUAL, column], strict=True)
            values = [100 * (score(a) - score(b)) for a, b in pairs]
            cells.append(cell(values, paired=True))
            if np.mean(values) < 0 and significant(values) and row.startswith("dao"):
                worse.append(f"`{row}` at {head}")
        lines.append(_row(row, cells))
    said = ", ".join(worse) or "nowhere"
    return [*lines, "", f"DAO significantly below equal weights: {said}.", ""]


def rate_lines(sweep: Sweep) -> list[str]:
    """The rate that each row chose; by column where these differ."""
    found = {
        row: [f"{sweep.lines[row, column][0]['rate']:g}" for column in sweep.columns]
        for row in sweep.rows
    }
    told = [
        f"`{row}` {values[0] if len(set(values)) == 1 else ' / '.join(values)}"
        for row, values in found.items()
    ]
    return [f"Rates chosen: {', '.join(told)}.", ""]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| `{name}`: {ARMS[name].about} | {' | '.join(cells)} |"


def _pair(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} / {pair[1]:.3f}"


def write_page(folder: Path, plan: Mapping[str, Any], sweeps: Sequence[Sweep]) -> None:
    """README.md and figure.png."""
    lines = [
        "# The scale of a loss",
        "",
        "Test figures, means over seeds. ± is half of the 95 % t interval of differences that are "
        "paired by seed; bold where it leaves out 0. `moves by` is the largest mean minus the "
        "smallest over the factors.",
        "",
        "![Accuracy and R² by factor](figure.png)",
        "",
    ]
    for sweep in sweeps:
        lines += [*level_lines(sweep), *(rate_lines(sweep) if sweep.tuned else [])]
        lines += difference_lines(sweep)
        if sweep.kind == "steps":
            for steps in sweep.columns:
                curves = {row: sweep.lines[row, steps] for row in sweep.rows}
                lines += progress_lines(curves, f"{sweep.title}: {steps:g} steps")
    lines += plan_lines(plan)
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    drawn = [s for s in sweeps if s.kind == "factor" and not s.tuned]
    panels = [_panel(s, task, name) for s in drawn for task, name in _NAMES.items()]
    (folder / "figure.png").write_bytes(png(panels))


_NAMES = {"cls": "accuracy", "reg": "R²"}


def _panel(sweep: Sweep, task: str, name: str) -> Panel:
    def draw(axes: Axes) -> None:
        for place, row in enumerate(DRAWN):
            if row in sweep.rows:
                means = [_mean(sweep.lines[row, c], task) for c in sweep.columns]
                width = 3.0 if row == "dao" else 1.5
                style = task_style(place) | {"linewidth": width}
                axes.plot(sweep.columns, means, marker="o", label=row, **style)
        axes.set_xscale("log")
        axes.set_xticks(sweep.columns[:: max(1, len(sweep.columns) // 4)])
        axes.xaxis.set_major_formatter(lambda factor, _: f"{factor:g}")
        axes.minorticks_off()
        axes.set_xlabel("factor on the loss of the score")
        axes.set_ylabel(name)
        axes.set_title(f"{TITLES[sweep.optimizer]}: {name}")

    return Panel(draw, f"{name} by factor under {TITLES[sweep.optimizer]}")
