"""Steps and seconds to the validation score that equal weights have at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

from benchmarks.frozen.numbers import cell
from benchmarks.frozen.pages import table_head

__all__ = ["progress_lines", "steps_to"]

Lines = Sequence[Mapping[str, Any]]


def steps_to(curve: Sequence[tuple[int, float]], goal: float) -> int | None:
    """The first step with a validation score of at least `goal`; None if there is none.

    Example:
        >>> steps_to([(10, 0.1), (20, 0.4), (30, 0.3)], 0.3)
        20
    """
    return next((step for step, score in curve if score >= goal), None)


def progress_lines(by_row: Mapping[str, Lines], title: str, base: str = "equal") -> list[str]:
    """Markdown: how soon each row reaches the last score of `base`, seed by seed.

    Args:
        by_row: lines with curves, by seed, of runs with equally many steps.
        title: of the table.
        base: the row whose end is the goal.
    """
    goals = [line["curve"][-1][1] for line in by_row[base]]
    heads = ["reached in", "steps, median", "- equal", "s per step x 1000", "seconds, median"]
    lines = [
        f"#### {title}: until the validation score that equal weights have at their end",
        "",
        table_head(["weighting", *heads]),
    ]
    bases = [steps_to(line["curve"], goal) for line, goal in zip(by_row[base], goals, strict=True)]
    for row, each in by_row.items():
        steps = [steps_to(line["curve"], goal) for line, goal in zip(each, goals, strict=True)]
        lines.append(f"| `{row}` | {' | '.join(_cells(each, steps, bases, row == base))} |")
    return [*lines, "", "A median counts a seed that never gets there as later than all.", ""]


def _cells(
    each: Lines, steps: Sequence[int | None], bases: Sequence[int | None], itself: bool
) -> list[str]:
    there = [step for step in steps if step is not None]
    pairs = [a - b for a, b in zip(steps, bases, strict=True) if a is not None and b is not None]
    per_step = mean(line["seconds"] / line["curve"][-1][0] for line in each)
    middle = median([float("inf") if step is None else step for step in steps])
    reached = middle != float("inf")
    return [
        f"{len(there)} of {len(steps)}",
        f"{middle:g}" if reached else "not reached",
        "" if itself else cell([float(p) for p in pairs], paired=True),
        f"{1000 * per_step:.1f}",
        f"{middle * per_step:.2f}" if reached else "",
    ]
