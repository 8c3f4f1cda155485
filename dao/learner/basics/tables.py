"""Tables for a terminal or a Markdown file: headings, and figures that are read by column."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from dao.learner.basics.numbers import aligned

__all__ = ["figure_cells", "titled"]


def titled(title: str, columns: Iterable[str], words: Collection[str] = ("",)) -> Table:
    """A table without rows; numbers stand on the right.

    Args:
        title: Above the table.
        columns: Headings from left to right.
        words: Headings of the columns that hold text, which stands on the left.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right")
    return table


def figure_cells(
    rows: Sequence[Mapping[str, Mapping[str, Any]]], columns: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """The cells of each row, with equally many decimals in a column; empty where there is none.

    Args:
        rows: Task -> figure -> value.
        columns: Task and figure of each.

    Example:
        >>> figure_cells([{"topic": {"accuracy": 0.5}}, {}], [("topic", "accuracy")])
        [['0.5000'], ['']]
    """
    cells = [aligned([row.get(task, {}).get(figure) for row in rows]) for task, figure in columns]
    return [[column[place] for column in cells] for place in range(len(rows))]
