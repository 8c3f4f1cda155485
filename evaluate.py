"""Measure a finished run on its test split or on new data, or let it predict.

python evaluate.py results/headlines/cls+reg-dao-dendrites/seed=0
python evaluate.py RUN --data new.csv
python evaluate.py RUN --text "Net loss narrowed in the third quarter"
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from dao.learner.predictor import Predictor
    from dao.learner.record import RunFolder
    from tasks.base import Task
    from tasks.table import Columns

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="A run folder that train.py wrote.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Columns of new data: data.text=NAME, ..."),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Labelled file to measure on; repeat for several.")
    ] = None,
    style: Annotated[
        Literal["terminal", "markdown", "json"], typer.Option("--format", help="Of the report.")
    ] = "terminal",
    text: Annotated[list[str] | None, typer.Option(help="Predict this; repeat for more.")] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="Predict every row of this file.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="CSV of the predictions of --input.")] = None,
    device: Annotated[str | None, typer.Option(help="Default: as in training.")] = None,
) -> None:
    """Report on a finished run, or predict with it."""
    from dao.learner.command import user_errors

    if (source is None) != (output is None):
        raise typer.BadParameter("--input and --output go together.")
    if sum(map(bool, (data, text, source))) > 1:
        raise typer.BadParameter("--data, --text and --input exclude each other.")
    with user_errors():
        from dao.learner.record import RunFolder

        folder = RunFolder(run)
        folder.check_finished()
        if text or source:
            _predict(folder, _columns(folder, overrides), text or [], source, output, device)
        else:
            _report(folder, _columns(folder, overrides), data or [], style, device)


def _columns(folder: RunFolder, overrides: list[str] | None) -> Columns:
    from tasks.data import Columns

    cfg = folder.config([o for o in overrides or [] if o.startswith("data.")])
    if refused := [o for o in overrides or [] if not o.startswith("data.")]:
        raise typer.BadParameter(f"only columns (data.NAME=COLUMN) can be set here: {refused[0]}")
    return Columns.named(cfg.data, cfg.tasks)


def _report(
    folder: RunFolder, columns: Columns, data: list[str], style: str, device: str | None
) -> None:
    from dao.errors import UserError
    from dao.learner.assessment import assess, slice_columns
    from dao.learner.command import show
    from dao.learner.report import summary
    from tasks.data import ceilings
    from tasks.unseen import load_unseen, overlap
    from train import load_table

    cfg, metrics, lines = folder.config(), folder.read("metrics.json"), []
    trained = train = None
    try:
        trained = load_table(cfg)
        folder.check_same_data(trained.report)
        train = trained.rows("train")
    except UserError as error:
        if not data:
            raise UserError(f"{error} Or measure on another file with --data.") from None
        lines = [f"no baselines, no check for overlap with the training data: {error}"]
    tasks, predictor = _load(folder, device)
    table = load_unseen(data, columns, tasks=cfg.tasks) if data else trained
    if data and train is not None:
        lines = [f"{overlap(trained, table)} of these rows were in the training data"]
    tasks = {name: task for name, task in tasks.items() if name in table.tasks}
    further = table.frame.drop(columns=list(tasks))
    slices = slice_columns(None if data else cfg.data.slices, further)
    rows = table.rows("test")
    outputs = predictor(rows["text"].tolist())
    parts = assess(outputs, tasks, rows, train, ceilings(table, tasks, "test"), slices)
    for part, content in parts.items():
        metrics[part] = {**({} if data else metrics[part]), "test": content}
    metrics |= {"data": table.report, "notes": lines}
    show(metrics, [*lines, *summary(metrics)], style)


def _predict(
    folder: RunFolder,
    columns: Columns,
    texts: list[str],
    source: Path | None,
    output: Path | None,
    device: str | None,
) -> None:
    from dao.learner.record import check_writable, write_atomically
    from tasks.unseen import read_texts

    if source and output:
        check_writable(output)
        texts = read_texts(str(source), columns)
    tasks, predictor = _load(folder, device)
    table = predictor.table(texts, tasks)
    if output:
        write_atomically(output, table.to_csv(index=False))
        print(f"{len(texts)} predictions in {output}")
    else:
        for row in table.to_dict("records"):
            print(json.dumps(row, ensure_ascii=False))


def _load(folder: RunFolder, device: str | None) -> tuple[dict[str, Task], Predictor]:
    from dao.learner.predictor import pick_device, reload
    from tasks import TASKS

    states = folder.read("tasks.json")
    tasks = {name: TASKS[name].from_dict(state) for name, state in states.items()}
    return tasks, reload(folder, tasks, pick_device(device or folder.config().device))


if __name__ == "__main__":
    app()
