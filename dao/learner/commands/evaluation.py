"""What evaluate.py prints beside the report: engines, a file in 8 bits, a threshold."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from dao.errors import UserError
from dao.learner.console.command import show_tables
from dao.learner.console.result_tables import TOGETHER, figures_across, main_of_tasks
from dao.learner.inference.predictor import Predictor
from dao.learner.inference.quantizing import quantize_run, quantized_lines
from dao.learner.inference.sizes import disk_bytes
from dao.learner.inference.speed import compare_engines
from dao.learner.inference.speed_report import engines_lines, engines_table
from dao.learner.inference.threshold_report import FILES, sweep_run, sweep_table
from dao.learner.kinds import Task
from dao.learner.scoring.assessment import TableLike
from dao.learner.scoring.threshold import sweep_lines
from dao.learner.storage.record import THRESHOLDS, RunFolder

__all__ = ["print_engines", "print_quantized", "print_sweep"]


def print_engines(
    folder: RunFolder,
    predictor: Predictor,
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    style: str,
) -> None:
    """Compare all engines on labelled rows; progress goes to stderr."""
    result = compare_engines(predictor, tasks, rows, _tell, saved=disk_bytes(folder))
    show_tables(result, _engines(result, tasks), engines_lines(result), style)


def print_quantized(
    folder: RunFolder,
    predictor: Predictor,
    tasks: Mapping[str, Task],
    rows: pd.DataFrame,
    place: Path,
    style: str,
) -> None:
    """Write the model in int8 and compare it on labelled rows; progress goes to stderr."""
    _make_folder(place)
    result = quantize_run(folder, predictor, tasks, rows, place, _tell)
    lines = [*quantized_lines(result), *engines_lines(result)]
    show_tables(result, _engines(result, tasks), lines, style)


def print_sweep(
    predictor: Predictor, tasks: Mapping[str, Any], table: TableLike, place: Path, style: str
) -> None:
    """Choose a threshold for each class of its own interest, and print the figures.

    The files of one such task lie in the folder, those of several in thresholds/TASK.

    Raises:
        UserError: the run has no such task, or there is no such folder; as `sweep_run`.
    """
    suited = [name for name, task in tasks.items() if task.positive is not None]
    if not suited:
        raise UserError(
            f"A threshold should be for a class that is rare or positive. Found none in "
            f"{', '.join(tasks)}. Train a binary task, or a classification with "
            f"{next(iter(tasks))}.positive=CLASS."
        )
    found, tables, lines = {}, [], []
    for name in suited:
        own = place / THRESHOLDS / name if len(suited) > 1 else place
        _make_folder(own)
        found[name] = sweep_run(predictor, tasks[name], table, own)
        tables.append(sweep_table(found[name]))
        lines += sweep_lines(found[name])
        lines += [f"written: {own / file}" for file in FILES]
    show_tables(found if len(found) > 1 else found[suited[0]], tables, lines, style)


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(
            f"The output should be a folder. Found the file {place}. Give another --output."
        ) from None


def _engines(result: Mapping[str, Any], tasks: Mapping[str, Task]) -> list[Table]:
    """Speed and figures of each engine; of many tasks the main figures, in a table of their own."""
    headline = main_of_tasks(tasks)
    if len(headline) <= TOGETHER:
        return [engines_table(result, headline)]
    figures = {row["engine"]: row["figures"] for row in result["rows"] if "reason" not in row}
    return [engines_table(result, {}), *figures_across("test, by engine", headline, figures)]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
