"""The page of `benchmarks.units`: tables and a figure from the lines of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from benchmarks.frozen.arms import ALONE, ARMS, MEAN
from benchmarks.frozen.numbers import Errors, cell, delta, interval, mean_ranks, worst_task
from benchmarks.frozen.pages import plan_lines, table_head
from dao.learner.experiment.pictures.figures import GRID, INK, Panel, png

__all__ = ["Part", "write_page"]

GRID_ROW, GRID_ARMS = "grid", ("equal", "power-.5", "power-.75", "equal-std")
HEADS = ["Δm %", "- equal-std", "- equal", "mean rank", "worst task", "s per run"]
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Part:
    """One table of the page.

    Attributes:
        table: the data's name.
        tuned: whether each row has a rate of its own.
        rates: per row.
        rows: the lines of each row, by seed.
    """

    table: str
    tuned: bool
    rates: Mapping[str, float]
    rows: Mapping[str, Lines]

    def errors(self) -> dict[str, list[Errors]]:
        """Test errors of all rows whose runs have them, by seed; `grid` chosen by validation."""
        found: dict[str, list[Errors]] = {
            arm: [{task: pair[0] for task, pair in line["test"].items()} for line in lines]
            for arm, lines in self.rows.items()
            if not arm.startswith(ALONE) and all(line["test"] for line in lines)
        }
        if all(arm in found for arm in GRID_ARMS):
            found[GRID_ROW] = [found[arm][seed] for seed, arm in enumerate(self.chosen())]
        return found

    def chosen(self) -> list[str]:
        """Of the constants, those with the best validation, by seed."""
        scores = {arm: [line["validation"] for line in self.rows[arm]] for arm in GRID_ARMS}
        return [max(GRID_ARMS, key=lambda arm: scores[arm][seed]) for seed in range(self.seeds)]

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.rows[MEAN])

    def alone(self) -> list[Errors]:
        """Test errors of single-task models, by seed."""
        own = {arm.removeprefix(ALONE): r for arm, r in self.rows.items() if arm.startswith(ALONE)}
        return [
            {task: lines[seed]["test"][task][0] for task, lines in own.items()}
            for seed in range(self.seeds)
        ]

    def deltas(self) -> dict[str, list[float]]:
        """Delta m of each row, by seed."""
        alone = self.alone()
        return {
            arm: [delta(e, a) for e, a in zip(errors, alone, strict=True)]
            for arm, errors in self.errors().items()
        }

    def seconds(self, arm: str) -> float:
        """Mean over seeds of what the row's training took; of `grid`, all its runs."""
        arms = GRID_ARMS if arm == GRID_ROW else (arm,)
        return sum(float(np.mean([line["seconds"] for line in self.rows[a]])) for a in arms)


def part_lines(part: Part) -> list[str]:
    """Markdown of one table."""
    deltas, errors, alone = part.deltas(), part.errors(), part.alone()
    ranks = mean_ranks({arm: e for arm, e in errors.items() if arm != MEAN})
    how = "a rate per row" if part.tuned else "one rate"
    heads = [*(["rate"] if part.tuned else []), *HEADS]
    lines = [
        f"### {part.table}, {how} ({part.seeds} seeds, {len(alone[0])} tasks)",
        "",
        table_head(["weighting", *heads]),
    ]
    for arm, values in deltas.items():
        task, worst = worst_task(errors[arm], alone)
        cells = [
            cell(values), _minus(deltas, arm, "equal-std"), _minus(deltas, arm, "equal"),
            f"{ranks[arm]:.1f}" if arm in ranks else "", f"{task} {worst:.1f}",
            "" if arm == MEAN else f"{part.seconds(arm):.2f}",
        ]  # fmt: skip
        if part.tuned:
            cells.insert(0, f"{part.rates[arm]:g}" if arm in part.rates else "")
        lines.append(f"| {_name(arm)} | {' | '.join(cells)} |")
    broken = [a for a in part.rows if a not in errors and not a.startswith(ALONE)]
    lines += [f"\n{arm}: not every run had a finite validation score." for arm in broken]
    return [*lines, ""]


def _name(arm: str) -> str:
    about = {MEAN: "the mean of training rows", GRID_ROW: "best of four constants by validation"}
    return f"`{arm}`: {about[arm] if arm in about else ARMS[arm].about}"


def _minus(deltas: Mapping[str, Sequence[float]], arm: str, base: str) -> str:
    if arm in (base, MEAN) or base not in deltas:
        return ""
    return cell([a - b for a, b in zip(deltas[arm], deltas[base], strict=True)], paired=True)


def overview(parts: Sequence[Part]) -> list[str]:
    """Delta m of every row on every table, at one rate and with a rate per row."""
    heads = [f"{part.table}{', own rate' if part.tuned else ''}" for part in parts]
    lines = [table_head(["weighting", *heads])]
    found = [part.deltas() for part in parts]
    for arm in dict.fromkeys(arm for deltas in found for arm in deltas):
        cells = [cell(deltas.get(arm, [])) for deltas in found]
        lines.append(f"| `{arm}` | {' | '.join(cells)} |")
    return [*lines, ""]


def write_page(folder: Path, plan: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """README.md and figure.png."""
    lines = [
        "# Targets in their own units",
        "",
        "Δm is the mean over tasks of how far the test error is below that of a model of the task "
        "alone, in percent: negative is worse than alone. ± is half of the 95 % t interval over "
        "seeds. Columns with a minus are differences of Δm, paired by seed; bold where the "
        "interval leaves out 0. The worst task is the one with the lowest mean change. Seconds are "
        "of one thread's processor time, on a machine that did other work beside.",
        "",
        "![Δm by weighting and table](figure.png)",
        "",
        *overview(parts),
        *(line for part in parts for line in part_lines(part)),
        *plan_lines(plan),
    ]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    panels = [_panel(part) for part in parts if not part.tuned]
    (folder / "figure.png").write_bytes(png(panels))


def _panel(part: Part) -> Panel:
    deltas = {arm: values for arm, values in part.deltas().items() if arm != MEAN}
    means = {arm: interval(values) for arm, values in deltas.items()}
    order = sorted(means, key=lambda arm: means[arm][0])

    def draw(axes: Axes) -> None:
        for place, arm in enumerate(order):
            mean, half = means[arm]
            colour = "#0072B2" if arm.startswith("dao") else INK
            axes.errorbar(mean, place, xerr=half, fmt="o", color=colour, capsize=2)
        axes.axvline(0, color=GRID, linewidth=1)
        axes.set_yticks(range(len(order)), order)
        axes.set_xscale("symlog", linthresh=5)
        axes.xaxis.set_major_formatter(lambda change, _: f"{change:g}")
        axes.set_xlabel("Δm %, against single-task models")
        axes.set_title(part.table)

    return Panel(draw, f"Delta m by weighting on {part.table}", (4.3, 3.8))
