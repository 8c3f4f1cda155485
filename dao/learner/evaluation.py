"""What evaluate.py prints beside the report: engines, a file in 8 bits, a threshold."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from dao.errors import UserError
from dao.learner.assessment import TableLike
from dao.learner.command import show_tables
from dao.learner.predictor import Predictor
from dao.learner.quantizing import quantize_run, quantized_lines
from dao.learner.record import RunFolder
from dao.learner.scoring import TaskLike
from dao.learner.sizes import disk_bytes
from dao.learner.speed import compare_engines
from dao.learner.speed_report import engines_lines, engines_table
from dao.learner.threshold import sweep_lines
from dao.learner.threshold_report import FILES, RareClass, sweep_run, sweep_table

__all__ = ["print_engines", "print_quantized", "print_sweep"]


def print_engines(
    folder: RunFolder,
    predictor: Predictor,
    tasks: Mapping[str, TaskLike],
    rows: pd.DataFrame,
    style: str,
) -> None:
    """Compare all engines on labelled rows; progress goes to stderr."""
    result = compare_engines(predictor, tasks, rows, _tell, saved=disk_bytes(folder))
    show_tables(result, [_engines(result, tasks)], engines_lines(result), style)


def print_quantized(
    folder: RunFolder,
    predictor: Predictor,
    tasks: Mapping[str, TaskLike],
    rows: pd.DataFrame,
    place: Path,
    style: str,
) -> None:
    """Write the model in int8 and compare it on labelled rows; progress goes to stderr."""
    _make_folder(place)
    result = quantize_run(folder, predictor, tasks, rows, place, _tell)
    lines = [*quantized_lines(result), *engines_lines(result)]
    show_tables(result, [_engines(result, tasks)], lines, style)


def print_sweep(
    predictor: Predictor, tasks: Mapping[str, Any], table: TableLike, place: Path, style: str
) -> None:
    """Choose a threshold, leave its files in a folder and print the figures.

    Raises:
        UserError: the run has no classification, or there is no such folder; as `sweep_run`.
    """
    task: RareClass | None = tasks.get("cls")
    if task is None:
        raise UserError(
            f"A threshold should be of a classification. Found {', '.join(tasks)} alone in this "
            f"run. Train with --tasks cls."
        )
    _make_folder(place)
    result = sweep_run(predictor, task, table, place)
    written = [f"written: {place / name}" for name in FILES]
    show_tables(result, [sweep_table(result)], [*sweep_lines(result), *written], style)


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(
            f"The output should be a folder. Found the file {place}. Give another --output."
        ) from None


def _engines(result: Mapping[str, Any], tasks: Mapping[str, TaskLike]) -> Table:
    return engines_table(result, {name: task.headline for name, task in tasks.items()})


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
