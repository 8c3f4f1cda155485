"""The page `report.html` of one run: its figures, its course and its predictions in pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from dao.errors import UserError
from dao.learner.basics.limits import PICTURED, TOGETHER
from dao.learner.basics.wording import listed
from dao.learner.console.report import summary
from dao.learner.console.result_tables import tables_of
from dao.learner.experiment.findings.contrasts import SELECTION, main_figures, measured
from dao.learner.experiment.findings.runs import Run, Runs, read_run
from dao.learner.experiment.pages.page import (
    Answer,
    Bullets,
    Folded,
    Mark,
    PageFigure,
    PageTable,
    Part,
    Section,
    Text,
    html,
)
from dao.learner.experiment.pages.words import explained
from dao.learner.experiment.pictures.prediction_figures import calibration, calibration_panel
from dao.learner.experiment.pictures.training_figures import (
    dao_panels,
    loss_panels,
    losses_panel,
    validation_panels,
)
from dao.learner.experiment.report.prediction_sections import VIEWS, left_out
from dao.learner.experiment.report.provenance import provenance_tables
from dao.learner.experiment.report.tables import number
from dao.learner.run_page.beside import MODEL, beside_panels, in_one_sentence, mains, not_better
from dao.learner.storage.files import write_atomically

__all__ = ["FILE", "run_page", "write_run_page"]

FILE = "report.html"
CURVES_SHOWN, PREDICTED = 3, 3
"""Curves, and pictures of predictions, that are seen without opening anything."""
CHOSEN = "validation"
"""The setting of a threshold that is chosen on the validation rows, once training is over."""
MAIN = "Test rows; the model beside models that anybody has for nothing."
CURVES = (
    "Figures on validation rows, and the loss in training: each point of a loss is the mean over "
    "some steps. Dashed vertical lines: where dendrites were added, and the step whose weights "
    "were kept."
)
CAPTIONS: Mapping[str, str] = {
    "confusion": "Number in a cell: rows; its colour: their share of the true class.",
    "scatter": "Point: a row; on the dashed line, prediction and truth agree.",
    "labels": "Bar: F1 of a label, whose number of rows is in brackets.",
}
RELIABLE = (
    "Test rows, in ten bins of equal width by the probability of the likeliest answer; the larger "
    "a point, the more rows in its bin. Below the diagonal the model is surer than it is right."
)
WEIGHTS = "Line: the weight, or the measured gradient norm, of each task's loss."


def write_run_page(path: Path) -> Path:
    """Write the page into the folder of a finished run.

    Args:
        path: of the run folder.

    Returns:
        The path of the page.

    Raises:
        UserError: the folder holds no finished run, a damaged one, or cannot be written.
    """
    page = path / FILE
    content = run_page(read_run(path, MODEL))
    try:
        write_atomically(page, content)
    except OSError as error:
        raise UserError(
            f"The page of a run is written into its folder. Found that {page} cannot be written: "
            f"{error.strerror or error}. Make the folder writable, or copy the run elsewhere."
        ) from None
    return page


def run_page(run: Run) -> str:
    """The page as HTML, from the files of the run alone."""
    runs = {run.arm: {run.seed: run}}
    shown = list(run.tasks)[:PICTURED]
    title = f"{run.metrics['name']}: {run.config.arm}, seed {run.seed}"
    sections = [
        Section("Result", _lead(run)),
        _training(run, runs, shown),
        _predictions(run, shown),
        _calibration(run, shown),
        *_weights(runs, shown),
        Section("Settings and versions", provenance_tables(runs)),
    ]
    return html(title, sections)


def _lead(run: Run) -> list[Part]:
    found = mains(run)
    parts: list[Part] = [Answer(in_one_sentence(run, found))]
    if panels := beside_panels(found[:PICTURED]):
        caption = f"{MAIN}{_of(len(found))}"
        parts.append(PageFigure("", panels, caption, CURVES_SHOWN))
    parts += map(Mark, not_better(found))
    parts += [_page_table(table) for table in tables_of(run.metrics)]
    parts.append(Folded("The run in sentences", [Bullets(summary(run.metrics))]))
    parts.append(explained("plain model", "TF-IDF", "validation", "loss", "loss weight"))
    return parts


def _of(tasks: int) -> str:
    return f" Of {tasks} tasks the first {PICTURED} are shown." if tasks > PICTURED else ""


def _page_table(table: Table) -> PageTable:
    """A table of the terminal as one of the page."""
    first, *heads = [str(column.header) for column in table.columns]
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    caption = f"Figures: {table.title}" + (f". {table.caption}" if table.caption else "")
    return PageTable(caption, [first or "model", *heads], [list(row) for row in rows])


def _training(run: Run, runs: Runs, tasks: Sequence[str]) -> Section:
    """The figures on validation, the main ones first, and the losses.

    Of more than `TOGETHER` tasks the losses share a picture, and only main figures have one.
    """
    metrics, few = measured(run.tasks), len(run.tasks) <= TOGETHER
    first = [*([] if len(run.tasks) == 1 else [SELECTION]), *main_figures(metrics).values()]
    rest = [m for m in metrics if few and m not in first and metrics[m]["task"]]
    kept = {"model kept": [run.metrics["training"]["selected_after_step"]]}
    shown = [m for m in (*first, *rest) if metrics[m]["task"] in (None, *tasks)]
    panels = validation_panels(runs, {"metrics": metrics, "tasks": []}, shown, kept)
    together = losses_panel(run, tasks)
    losses = loss_panels(runs, tasks) if few else [together] if together else []
    title = "Training and validation"
    if not panels and not losses:
        return left_out(title, "validation.jsonl and history.jsonl have nothing to show")
    ordered = [*panels[:1], *losses[:1], *panels[1:], *losses[1:]]
    caption = f"{CURVES}{_of(len(run.tasks))}{_likelier(run)}"
    figure = PageFigure("", ordered, caption, CURVES_SHOWN)
    return Section(title, [figure, explained("loss", "validation", "dendrites")])


def _likelier(run: Run) -> str:
    """A sentence on tasks whose threshold the curves do not have yet; empty without any."""
    tasks = run.config.tasks.items()
    found = [name for name, own in tasks if own.model_dump().get("threshold") == CHOSEN]
    if not found:
        return ""
    return (
        f" In the curves, the answer of {listed(found)} is the likelier class, because the "
        f"threshold is chosen at the end."
    )


def _predictions(run: Run, tasks: Sequence[str]) -> Section:
    """The predictions of each task in the picture of its kind."""
    title, panels, captions = "Predictions", [], []
    for view, (_, _, draw, _) in VIEWS.items():
        own = [task for task in tasks if run.tasks[task].view == view]
        found = [panel for task in own if (panel := draw(run.arm, [run], task))]
        panels += found
        captions += [CAPTIONS[view]] if found else []
    if not panels:
        return left_out(title, "the run is kept without predictions.csv")
    caption = f"Test rows. {' '.join(captions)}{_of(len(run.tasks))}"
    return Section(title, [PageFigure("", panels, caption, PREDICTED)])


def _calibration(run: Run, tasks: Iterable[str]) -> Section:
    """A reliability diagram of each task that has probabilities, and the error as one number."""
    curves = {task: curve for task in tasks if (curve := calibration([run], task)) is not None}
    if not curves:
        return left_out("Calibration", "no task has predictions with probabilities")
    panels = [calibration_panel({run.arm: curve}, task) for task, curve in curves.items()]
    told = "; ".join(f"{task} {number(curve.ece)}" for task, curve in curves.items())
    error = Text(f"Expected calibration error (ECE) on the test rows: {told}.")
    figure = PageFigure("", panels, RELIABLE, PREDICTED)
    return Section("Calibration", [figure, error, explained("ECE")])


def _weights(runs: Runs, tasks: Sequence[str]) -> list[Section]:
    panels = dao_panels(runs, tasks, list(runs))
    if not panels:
        return []
    words = explained("loss weight", "gradient norm", "DAO")
    figure = PageFigure("", panels, WEIGHTS)
    return [Section("Loss weights and gradient norms", [figure, words], folded=True)]
