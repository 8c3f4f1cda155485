"""What `dao evaluate` prints: the report, and ways to run, merge or quantise the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table as Shown

from dao.errors import UserError
from dao.learner.basics.limits import TOGETHER
from dao.learner.calibration.figures import COVERAGE, calibration_parts
from dao.learner.console.command import show, show_tables
from dao.learner.console.report import summary
from dao.learner.console.result_tables import (
    figures_across,
    main_columns,
    variants_tables,
)
from dao.learner.data.load import Columns, Table, ceilings
from dao.learner.data.report import said
from dao.learner.data.unseen import load_unseen, overlap
from dao.learner.experiment.report.side_by_side import print_beside
from dao.learner.experts.merging import Rule, merge_and_measure
from dao.learner.experts.routing import routing_figures
from dao.learner.inference.elsewhere import RunElsewhere
from dao.learner.inference.load import Model
from dao.learner.inference.quantizing import quantize_run, quantized_lines
from dao.learner.inference.sizes import disk_bytes
from dao.learner.inference.speed import compare_engines
from dao.learner.inference.speed_report import engines_lines, engines_table
from dao.learner.inference.threshold_report import FILES, sweep_run, sweep_table
from dao.learner.kinds import Task
from dao.learner.kinds.recorded import described
from dao.learner.pipeline.start import load_table
from dao.learner.run_page.page import write_run_page
from dao.learner.scoring.assessment import assess, slice_columns
from dao.learner.scoring.threshold import sweep_lines
from dao.learner.settings.checks import DOMAIN
from dao.learner.storage.record import THRESHOLDS

__all__ = [
    "print_both",
    "print_engines",
    "print_merged",
    "print_page",
    "print_quantized",
    "print_report",
    "print_sweep",
]

Load = Callable[[], Model]


def print_report(
    folder: RunElsewhere,
    load: Callable[[], Model],
    columns: Columns,
    data: Sequence[str],
    style: str,
    coverage: float | None = None,
) -> None:
    """Measure the model of a finished run and print the report.

    Args:
        folder: of the run.
        load: gives its model.
        columns: of new data.
        data: files with labels; empty: the run's own test rows.
        style: `terminal`, `markdown` or `json`.
        coverage: of sets and intervals; None for that of every report, where the run allows it.

    Raises:
        UserError: the data of the run are not what they were, or the new ones cannot be used; the
            run does not allow the coverage.
    """
    trained, lines = _trained(folder, bool(data))
    model, metrics = load(), folder.read("metrics.json")
    written = metrics.get("data", {}).get("written")
    table = load_unseen(data, columns, tasks=model.tasks, written=written) if data else trained
    assert table is not None, "without new data, missing data of the run are an error"
    cfg = folder.config()
    if data and trained is not None:
        lines = [f"{overlap(trained, table)} of these rows were in the training data"]
    if data and cfg.data.where:
        lines.append(f"not applied to these rows: data.where of the run, {dict(cfg.data.where)}")
    lines += said(table.report) if data else []
    if coverage is not None:
        lines += model.covered(coverage).notes()
    found = _measured(folder, model, table, trained, coverage, new=bool(data))
    for part, content in found.items():
        metrics[part] = {**({} if data else metrics.get(part, {})), "test": content}
    if data:  # "test" would be taken for the test rows of the run
        metrics["measured_on"] = [Path(source).name for source in data]
    if cfg.routed:
        tasks = {name: task for name, task in model.tasks.items() if name in table.frame}
        routed = routing_figures(model.predictor, tasks, table.rows("test"))
        metrics["routing"] = {"test": routed}
    lines += model.notes()
    metrics |= {"data": table.report, "notes": lines}
    show(metrics, [*lines, *summary(metrics)], style)


def print_page(folder: RunElsewhere) -> None:
    """Write the page of a finished run into its folder, and print where it is.

    Raises:
        UserError: as `write_run_page`.
    """
    print(f"page: {write_run_page(folder.path)}")


def _trained(folder: RunElsewhere, new: bool) -> tuple[Table | None, list[str]]:
    """The data of the run; of a run that is measured on new data, None where they are gone."""
    try:
        return _own_table(folder), []
    except UserError as error:
        if not new:
            raise UserError(f"{error} Or measure on another file with --data.") from None
        return None, [f"no baselines, no check for overlap with the training data: {error}"]


def _measured(
    folder: RunElsewhere,
    model: Model,
    table: Table,
    trained: Table | None,
    coverage: float | None,
    *,
    new: bool,
) -> Mapping[str, Any]:
    """Figures on the test rows of the table, baselines, breakdowns, and calibration."""
    cfg, rows = folder.config(), table.rows("test")
    tasks = {name: task for name, task in model.tasks.items() if name in table.frame}
    # The domain stays where it is a task as well.
    further = table.frame.drop(columns=[name for name in tasks if name != DOMAIN])
    chosen = None if new else cfg.data.slices
    slices = slice_columns(chosen, further, cfg.target_columns, cfg.tasks)
    learnt = None if trained is None else (trained.rows("train"), trained.rows("validation"))
    ids = model.predictor.tokens(rows["text"].tolist())
    outputs = model.predictor.of_tokens(ids)
    found = assess(outputs, tasks, rows, learnt, ceilings(table, tasks, "test"), slices)
    if model.calibration is None:
        return found
    asked = COVERAGE if coverage is None else coverage
    parts = calibration_parts("test", tasks, model.calibration, outputs, rows, ids, asked)
    return found | {name: of_splits["test"] for name, of_splits in parts.items()}


def _test_rows(folder: RunElsewhere) -> pd.DataFrame:
    return _own_table(folder).rows("test")


def _own_table(folder: RunElsewhere) -> Table:
    """The data that the run was trained on.

    Raises:
        UserError: they have changed, or are gone.
    """
    table = load_table(folder.config())
    folder.check_same_data(table.report)
    return table


def print_engines(folder: RunElsewhere, load: Load, style: str) -> None:
    """Compare all engines on the test rows; progress goes to stderr."""
    rows, model = _test_rows(folder), load()
    saved = disk_bytes(folder)
    result = compare_engines(model.predictor, model.tasks, rows, _tell, saved=saved)
    show_tables(result, _engines(result, model.tasks), engines_lines(result), style)


def print_quantized(folder: RunElsewhere, load: Load, place: Path, style: str) -> None:
    """Write the model in int8 and compare it on the test rows; progress goes to stderr."""
    rows, model = _test_rows(folder), load()
    _make_folder(place)
    result = quantize_run(folder, model.predictor, model.tasks, rows, place, _tell)
    lines = [*quantized_lines(result), *engines_lines(result)]
    show_tables(result, _engines(result, model.tasks), lines, style)


def print_both(folder: RunElsewhere, load: Load, load_other: Load, style: str) -> None:
    """Measure two runs on the test rows of the first, taking turns."""
    rows, model, other = _test_rows(folder), load(), load_other()
    sides = [(m.folder, m.predictor, dict(m.tasks)) for m in (model, other)]
    print_beside(sides[0], sides[1], rows, style)


def print_merged(
    folder: RunElsewhere, load: Load, rule: Rule, weights: str | None, output: Path, style: str
) -> None:
    """Write the experts of a run as one adapter, and compare it with them on the test rows."""
    rows, model = _test_rows(folder), load()
    found, lines = merge_and_measure(
        folder, model.predictor, model.tasks, rows, rule, weights, output
    )
    headline = main_columns(described(model.tasks))
    show_tables(found, variants_tables("test", headline, found), lines, style)


def print_sweep(folder: RunElsewhere, load: Load, place: Path, style: str) -> None:
    """Choose a threshold for each class of its own interest, and print the figures.

    The files of one such task lie in the folder, those of several in thresholds/TASK.

    Raises:
        UserError: the run has no such task, or there is no such folder; as `sweep_run`.
    """
    table, model = _own_table(folder), load()
    tasks = model.tasks
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
        found[name] = sweep_run(model.predictor, tasks[name], table, own)
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


def _engines(result: Mapping[str, Any], tasks: Mapping[str, Task]) -> list[Shown]:
    """Speed and figures of each engine; of many tasks the main figures, in a table of their own."""
    headline = main_columns(described(tasks))
    if len(headline) <= TOGETHER:
        return [engines_table(result, headline)]
    figures = {row["engine"]: row["figures"] for row in result["rows"] if "reason" not in row}
    return [engines_table(result, {}), *figures_across("test, by engine", headline, figures)]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
