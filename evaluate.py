"""Measure a finished run on its test split or on new data, or let it predict.

python evaluate.py results/headlines/cls+reg-dao-dendrites/seed=0
python evaluate.py RUN --data new.csv
python evaluate.py RUN --text "Net loss narrowed in the third quarter"
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from dao.learner.record import RunFolder
    from dao.learner.run import Predictor
    from tasks.base import Task

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="A run folder that train.py wrote.")],
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
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
        if text:
            _predict_texts(folder, text, device)
        elif source and output:
            _predict_file(folder, source, output, device)
        else:
            _report(folder, data or [], style, device)


def _load(folder: RunFolder, device: str) -> tuple[dict[str, Task], Predictor]:
    from dao.learner.run import pick_device, reload
    from tasks import TASKS

    states = folder.read("tasks.json")
    tasks = {name: TASKS[name].from_dict(state) for name, state in states.items()}
    return tasks, reload(folder, tasks, pick_device(device))


def _report(folder: RunFolder, data: list[str], style: str, device: str) -> None:
    from dao.errors import UserError
    from dao.learner.command import show
    from dao.learner.report import summary
    from dao.learner.run import assess
    from tasks.data import ceilings
    from tasks.unseen import load_unseen, overlap
    from train import columns_of, load_table

    cfg = folder.config()
    trained = load_table(cfg)
    if not data and folder.read("data.json")["fingerprint"] != trained.report["fingerprint"]:
        raise UserError(
            f"The data of {folder.path} should be those it was tested on. Found that they have "
            f"changed since. Restore them, or name the file to measure on with --data."
        )
    tasks, predictor = _load(folder, device)
    table = load_unseen(data, columns_of(cfg), tasks=list(tasks)) if data else trained
    tasks = {name: task for name, task in tasks.items() if name in table.tasks}
    outputs = predictor(table.rows("test")["text"].tolist())
    figures = assess(cfg, outputs, tasks, trained, table, ceilings(table, tasks, "test"))
    metrics = {**folder.read("metrics.json"), **figures}
    lines = [f"{overlap(trained, table)} of these rows were in the training data"] if data else []
    show(metrics, [*lines, *summary(metrics, folder.rows("history.jsonl"))], style)


def _predict_texts(folder: RunFolder, texts: list[str], device: str) -> None:
    tasks, predictor = _load(folder, device)
    for row in _rows(texts, tasks, predictor):
        print(json.dumps(row, ensure_ascii=False))


def _predict_file(folder: RunFolder, source: Path, output: Path, device: str) -> None:
    import pandas as pd

    from dao.learner.record import write_atomically
    from tasks.unseen import read_texts
    from train import columns_of

    texts = read_texts(str(source), columns_of(folder.config()))
    rows = _rows(texts, *_load(folder, device))
    write_atomically(output, pd.DataFrame(rows).to_csv(index=False))
    print(f"{len(rows)} predictions in {output}")


def _rows(texts: list[str], tasks: dict[str, Task], predictor: Predictor) -> list[dict[str, Any]]:
    outputs = predictor(texts)
    columns = {"text": texts}
    for name, task in tasks.items():
        columns |= task.predict(outputs[name])
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


if __name__ == "__main__":
    app()
