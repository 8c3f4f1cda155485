"""What a report says of calibration: temperatures, errors before and after, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from dao.learner.basics.numbers import aligned, number
from dao.learner.basics.tables import titled
from dao.learner.basics.wording import count
from dao.learner.kinds.recorded import part_name

__all__ = ["calibration_lines", "calibration_tables"]

ERRORS = {"ece": "expected calibration error", "nll": "negative log-likelihood"}
BEFORE_AFTER = ("before", "after")
WIDE_AS = {"classes": "classes", "width": "wide"}


def calibration_tables(metrics: Mapping[str, Any], split: str) -> list[Table]:
    """A table of the probabilities, and one of the sets and intervals; a row per task.

    Args:
        metrics: the content of metrics.json; of an earlier revision there are no tables.
        split: which part of the data the rows are about.
    """
    found = metrics.get("calibration", {}).get(split, {})
    part = part_name(metrics, split)
    scaled = {name: own for name, own in found.items() if "temperature" in own}
    told = {
        name: {"n": own["n"], **own["coverage"]} for name, own in found.items() if "coverage" in own
    }
    reached = {name: own for name, own in told.items() if own["reached"] is not None}
    tables = [_scaling(f"{part}, probabilities before and after scaling", scaled)] if scaled else []
    if reached:
        asked = next(iter(reached.values()))["asked"]
        tables.append(_coverage(f"{part}, sets and intervals at a coverage of {asked:g}", reached))
    return tables


def _scaling(title: str, found: Mapping[str, Any]) -> Table:
    pairs = [(key, when) for key in ERRORS for when in BEFORE_AFTER]
    heads = [f"{key.upper()} {when} ↓" for key, when in pairs]
    columns = [aligned([own["temperature"] for own in found.values()])]
    columns += [aligned([own[key][when] for own in found.values()]) for key, when in pairs]
    table = titled(title, ["", "temperature", *heads])
    for place, name in enumerate(found):
        table.add_row(name, *(column[place] for column in columns))
    return table


def _coverage(title: str, found: Mapping[str, Any]) -> Table:
    rows = list(found.values())
    columns = {
        "coverage reached": aligned([own["reached"] for own in rows]),
        "on rows": [str(own["n"]) for own in rows],
        "mean size": [f"{number(own['size'])} {WIDE_AS[own['region']]}" for own in rows],
        "unsure": aligned([own["unsure"] for own in rows]),
        "validation rows": [str(own["validation_rows"]) for own in rows],
    }
    if not any(columns["unsure"]):
        del columns["unsure"]
    table = titled(title, ["", *columns])
    for place, name in enumerate(found):
        table.add_row(name, *(cells[place] for cells in columns.values()))
    return table


def calibration_lines(metrics: Mapping[str, Any], split: str) -> list[str]:
    """Where scaling did not help, where there are too few rows for a coverage, unlike texts."""
    part, lines = part_name(metrics, split), []
    for name, own in metrics.get("calibration", {}).get(split, {}).items():
        lines += _not_lowered(name, own, part)
        told = own.get("coverage")
        if told and told["reached"] is None:
            lines.append(
                f"{name}: no coverage of {told['asked']:g} is told, because "
                f"{count(told['validation_rows'])} of validation allow at most "
                f"{told['largest']:.3f}"
            )
    about = metrics.get("unlike", {}).get(split)
    if about:
        lines.append(
            f"{part}: {100 * about['share']:.1f} % of {about['n']:,} texts are unlike the training "
            f"texts (more than {100 * about['limit']:.1f} % of their tokens are in none of those)"
        )
    return lines


def _not_lowered(name: str, own: Mapping[str, Any], part: str) -> list[str]:
    if own.get("temperature", 1.0) == 1.0:
        untold = "temperature" in own
        why = "the validation rows give no temperature between 0.05 and 20"
        return [f"{name}: probabilities are not scaled, because {why}"] if untold else []
    return [
        f"{name}: scaling did not lower the {ERRORS[key]} on {part}, "
        f"{number(own[key]['before'])} before and {number(own[key]['after'])} after"
        for key in ERRORS
        if own[key]["after"] >= own[key]["before"]
    ]
