"""`dao compare`: two runs, or two folders of runs, tested against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dao.learner.commands import options as o

__all__ = ["compare", "compare_runs"]

Side = Annotated[Path, typer.Argument(help="A finished run, or a folder with runs in seed=N.")]


def compare(run_a: Side, run_b: Side, style: o.Style = None) -> None:
    """Test two runs, or two folders of runs, against each other on the same test rows."""
    compare_runs(run_a, run_b, style)


def compare_runs(run_a: Path, run_b: Path, style: str | None) -> None:
    """Print the comparison.

    Raises:
        typer.Exit: bad input, said in one line.
    """
    from dao.learner.console.errors import user_errors

    with user_errors():
        from dao.learner.experiment.report.comparison_report import print_comparison

        print_comparison(run_a, run_b, style or "terminal")
