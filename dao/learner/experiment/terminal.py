"""What is printed when an experiment has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich.table
from rich.markup import escape

from dao.learner.command import show_tables
from dao.learner.experiment import tables
from dao.learner.experiment.page import Table

__all__ = ["print_report"]

SHOWN = ("effect", "estimate", "95 % t interval", "Holm p", "detectable", "verdict")
WORDS = ("effect", "verdict")


def print_report(folder: Path, findings: Mapping[str, Any]) -> None:
    """The effects on the headline figures, what they allow to say, and where the rest is."""
    found = [tables.effects_table(findings, metric) for metric in tables.headlines(findings)]
    lines = [
        *tables.headline(findings),
        *tables.beside(findings),
        *tables.missing(findings),
        f"report: {folder / 'report.html'}",
    ]
    show_tables(findings, [_shown(table) for table in found if table], lines, "terminal")


def _shown(table: Table) -> rich.table.Table:
    """The columns that fit into a terminal."""
    shown = rich.table.Table(title=escape(table.caption), title_justify="left", title_style="bold")
    for name in SHOWN:
        shown.add_column(name, justify="left" if name in WORDS else "right")
    for row in table.rows:
        cells = dict(zip(table.head, row, strict=True))
        shown.add_row(*(escape(cells[name]) for name in SHOWN))
    return shown
