"""The model's figures beside those that others reached on the same data, such as people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from dao.learner.basics.numbers import aligned
from dao.learner.basics.tables import titled
from dao.learner.console.terminal import styled
from dao.learner.kinds.recorded import part_name

__all__ = ["reference_tables"]

Reference = Mapping[str, Any]


def reference_tables(metrics: Mapping[str, Any], split: str) -> list[Table]:
    """A table per task and figure of which the data bring figures of others.

    A column is all rows, or the rows with one value of a column by which the run breaks its figures
    down. The others' figures are about all rows of the data, the model's about those of the split.

    Args:
        metrics: the content of metrics.json.
        split: whose figures of the model are told.
    """
    grouped: dict[tuple[str, str], list[Reference]] = {}
    for known in metrics.get("data", {}).get("references", ()):
        if known["task"] in metrics["splits"][split]:
            grouped.setdefault((known["task"], known["figure"]), []).append(known)
    return [_table(metrics, split, *key, known) for key, known in grouped.items()]


def _table(
    metrics: Mapping[str, Any], split: str, task: str, figure: str, known: Sequence[Reference]
) -> Table:
    slices = metrics.get("slices", {}).get(split) or {}
    own = {"all rows": metrics["splits"][split][task].get(figure)} | {
        f"{column} = {value}": rows[task].get(figure)
        for column, groups in slices.items()
        for value, rows in groups.items()
        if task in rows and any(value in other["parts"].get(column, ()) for other in known)
    }
    others = [
        {"all rows": other["whole"]}
        | {f"{column} = {v}": x for column, of in other["parts"].items() for v, x in of.items()}
        for other in known
    ]
    columns = [aligned([row.get(place) for row in (own, *others)]) for place in own]
    names = [styled("this model", "bold"), *(other["name"] for other in known)]
    table = titled(f"{part_name(metrics, split)}: {task} {figure}, beside others", ["", *own])
    for place, name in enumerate(names):
        table.add_row(name, *(cells[place] for cells in columns))
    sources: dict[str, list[str]] = {}
    for other in known:
        sources.setdefault(other["source"], []).append(other["name"])
    table.caption = "; ".join(f"{', '.join(who)}: {where}" for where, who in sources.items())
    table.caption_justify = "left"
    return table
