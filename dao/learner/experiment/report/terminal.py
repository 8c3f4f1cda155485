"""What a terminal shows of an experiment that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from dao.learner.basics.tables import titled
from dao.learner.console.command import show_tables
from dao.learner.experiment.pages.page import PageTable
from dao.learner.experiment.report import tables
from dao.learner.experiment.report.answer import answer
from dao.learner.experiment.report.first_lines import dendrite_lines, worse_arms

__all__ = ["print_report"]

SHOWN = ("effect", "estimate", "95 % t interval", "Holm p", "detectable", "verdict")
IN_FULL = 3
"""Tasks up to which the terminal shows the effects on every main figure."""


def print_report(folder: Path, findings: Mapping[str, Any]) -> None:
    """The effects on the primary and the main figures, what they allow to say, where the rest is.

    Of many tasks, the tables of the main figures are in the report alone.
    """
    mains = tables.mains(findings)
    shown = [*tables.primary(findings), *(mains if len(mains) <= IN_FULL else [])]
    found = [tables.effects_table(findings, metric) for metric in shown]
    lines = [
        answer(findings),
        *worse_arms(findings),
        *tables.sentences(findings),
        *tables.beside(findings),
        *dendrite_lines(findings),
        *tables.missing(findings),
        f"report: {folder / 'report.html'}",
    ]
    show_tables(findings, [_shown(table) for table in found if table], lines, "terminal")


def _shown(table: PageTable) -> Table:
    """The columns that fit into a terminal."""
    shown = titled(table.caption, SHOWN, words=("effect", "verdict"))
    for row in table.rows:
        cells = dict(zip(table.head, row, strict=True))
        shown.add_row(*(cells[name] for name in SHOWN))
    return shown
