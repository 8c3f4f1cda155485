"""The comparison of engines as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from dao.learner.basics.tables import figure_cells, titled

__all__ = ["engines_lines", "engines_table"]

COLUMNS = {
    "mean_ms": ("mean ms ↓", "{:.2f}"),
    "p50_ms": ("p50 ms ↓", "{:.2f}"),
    "p95_ms": ("p95 ms ↓", "{:.2f}"),
    "p99_ms": ("p99 ms ↓", "{:.2f}"),
    "sentences_per_s": ("sentences/s ↑", "{:,.0f}"),
    "tokens_per_s": ("tokens/s ↑", "{:,.0f}"),
    "ratio": ("ratio ↑", "{:.2f}"),
    "megabytes": ("MB ↓", "{:.1f}"),
    "disk_megabytes": ("MB on disk ↓", "{:.1f}"),
    "largest_difference": ("difference", "{:.1e}"),
}


def engines_table(
    result: Mapping[str, Any], headline: Mapping[str, Sequence[tuple[str, str]]]
) -> Table:
    """One row per engine that could run; `engines_lines` says why the others could not.

    Args:
        result: of `dao.learner.inference.speed.compare_engines`.
        headline: the figures to show per task, each with its better direction.
    """
    figures = [(task, metric, arrow) for task, shown in headline.items() for metric, arrow in shown]
    # Spaces, at which a narrow terminal can break the heading.
    heads = [f"{task} {metric.replace('_', ' ')} {arrow}" for task, metric, arrow in figures]
    table = titled("engines", ["", *(title for title, _ in COLUMNS.values()), *heads])
    rows = [row for row in result["rows"] if "reason" not in row]
    cells = figure_cells([row["figures"] for row in rows], [(t, m) for t, m, _ in figures])
    for row, own in zip(rows, cells, strict=True):
        table.add_row(row["engine"], *_times(row), *own)
    return table


def _times(row: Mapping[str, Any]) -> list[str]:
    shown = [(row[key], form) for key, (_, form) in COLUMNS.items()]
    return ["" if value is None else form.format(value) for value, form in shown]


def engines_lines(result: Mapping[str, Any]) -> list[str]:
    """What the figures are of, in a few plain lines."""
    lines = [
        f"{result['texts']} texts of the test split, {result['tokens']:,} tokens, in batches of "
        f"{result['batch_size']}; medians of {result['rounds']} rounds, the engines in turn; "
        f"latency of {result['single_texts']} single texts; token ids to outputs, without the "
        f"tokenizer; {result['device']}, {result['threads']} threads",
        "ratio: throughput against the first row, by rounds. difference: largest of any output "
        f"from the trained model ({result['trained_in']}) on sorted batches. MB: weights in "
        "memory; on disk: the files it is loaded from, where there are any",
    ]
    reasons: dict[str, list[str]] = {}
    for row in result["rows"]:
        if "reason" in row:
            reasons.setdefault(row["reason"], []).append(row["engine"])
    lines += [f"not run: {', '.join(names)}: {why}" for why, names in reasons.items()]
    return [*lines, result["merged"]] if result["merged"] else lines
