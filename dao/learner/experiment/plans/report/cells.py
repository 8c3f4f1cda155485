"""Cells of the tables of a planned experiment: names of rows, figures with their interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.basics.numbers import is_known
from dao.learner.experiment.report.tables import MINUS, number

__all__ = ["PERCENT", "Table", "figure_cell", "row_name", "runs_of", "shown", "spread_cell"]

Table = list[list[str]]
PERCENT = "%"
"""The unit of figures that have two decimals."""


def shown(value: float | None, unit: str = "", *, signed: bool = False) -> str:
    """A figure by itself; of percents two decimals.

    Example:
        >>> shown(0.75), shown(12.345, "%", signed=True)
        ('0.7500', '+12.35')
    """
    if not is_known(value) or unit != PERCENT:
        return number(value, signed=signed)
    return f"{value:{'+' if signed else ''}.2f}".replace("-", MINUS)


def figure_cell(
    mean: float | None, t95: Sequence[float] | None, unit: str = "", *, signed: bool = False
) -> str:
    """A mean with half of its 95 % t interval; empty where there is no mean.

    Example:
        >>> figure_cell(0.75, [0.74, 0.76]), figure_cell(0.5, None, signed=True)
        ('0.7500 ± 0.0100', '+0.5000')
    """
    if not is_known(mean):
        return ""
    half = "" if not t95 else f" \N{PLUS-MINUS SIGN} {shown((t95[1] - t95[0]) / 2, unit)}"
    return shown(mean, unit, signed=signed) + half


def spread_cell(about: Mapping[str, Any] | None, unit: str = "", *, signed: bool = False) -> str:
    """The same of what `spread` gives."""
    return figure_cell(about["mean"], about["t95"], unit, signed=signed) if about else ""


def row_name(row: str, findings: Mapping[str, Any]) -> str:
    """A row with the arm that was chosen for it, and how many of its runs ended, if not all did."""
    chosen = findings["choices"].get(row)
    name = f"{row}: {chosen['chosen']}" if chosen else row
    ended, meant = runs_of(row, findings), len(findings["seeds"])
    return name if ended == meant else f"{name} ({ended} of {meant} runs ended)"


def runs_of(row: str, findings: Mapping[str, Any]) -> int:
    """How many runs of a row ended."""
    return len(findings["arms"].get(row, {}).get("seconds", {}))
