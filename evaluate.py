"""Measure a finished run on its test split or on new data, or let it predict.

python evaluate.py results/headlines/cls+reg-dao-dendrites/seed=0
python evaluate.py RUN --data new.csv
python evaluate.py RUN --text "Net loss narrowed in the third quarter"
python evaluate.py RUN --text "A man sleeps" --text-pair "He is awake"
python evaluate.py RUN --benchmark
python evaluate.py RUN --threshold-sweep
python evaluate.py RUN --compare-to RUN_B
python evaluate.py RUN --quantize int8
python evaluate.py RUN --export model.onnx
python evaluate.py compare RUN_A RUN_B
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from dao.learner.data.reading.table import Columns
    from dao.learner.experts.merging import Rule
    from dao.learner.inference.engines import EngineName
    from dao.learner.inference.predictor import Predictor
    from dao.learner.kinds import Task
    from dao.learner.pipeline.elsewhere import RunElsewhere
    from dao.learner.storage.record import RunFolder

    Load = Callable[[], tuple[dict[str, Task], Predictor, list[str]]]

TAKE_OUTPUT = ("--input", "--merge-experts", "--quantize", "--threshold-sweep")
ENCODER = "encoder.name="
TABLE = ("split", "domain", "id", "encoding", "missing")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="A run folder of train.py, or: compare.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]... or RUN_A RUN_B",
            help="Columns of new data: data.text=NAME, data.TASK=NAME, ..., their data.encoding "
            "and data.missing; encoder.name=FOLDER, where the encoder of the run is now; or the "
            "two to compare, each a run or a folder with runs in seed=N.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Labelled file to measure on; repeat for several.")
    ] = None,
    style: Annotated[
        Literal["terminal", "markdown", "json"] | None,
        typer.Option("--format", help="Of the report or comparison; default: terminal."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="Predict this; repeat for more.")] = None,
    text_pair: Annotated[
        list[str] | None,
        typer.Option(help="Second text of each --text, for a run on pairs of texts."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Predict every row of this file; its columns stay."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="CSV of --input with the predictions, else printed; folder for the files of "
            "--threshold-sweep and --quantize, else the run's."
        ),
    ] = None,
    engine: Annotated[
        Literal["eager", "merged", "bf16", "int8", "onnx", "onnx-int8"] | None,
        typer.Option(help="What runs the model; default: eager, as it was trained."),
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Compare all engines on the test split.")
    ] = False,
    merge_experts: Annotated[
        Literal["cat", "svd", "linear", "ties"] | None,
        typer.Option(help="Make one adapter of a run's experts, in the folder --output."),
    ] = None,
    expert_weights: Annotated[
        str | None, typer.Option(help="With --merge-experts: .5,.5; default: equal.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the model to this .onnx, and .onnx.json.")
    ] = None,
    quantize: Annotated[
        Literal["int8"] | None,
        typer.Option(help="Write the model in 8 bits (ONNX), and compare size, speed, figures."),
    ] = None,
    threshold_sweep: Annotated[
        bool,
        typer.Option(
            "--threshold-sweep",
            help="For each rare or positive class: the threshold of the best F1 on validation, "
            "beside the most probable class on test; threshold.json and precision_recall.png.",
        ),
    ] = False,
    compare_to: Annotated[
        Path | None,
        typer.Option(help="Another finished run: figures, latency, throughput, size of both."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Default: as in training.")] = None,
) -> None:
    """Report on a finished run, predict with it, compare ways to run it, or export it.

    compare RUN_A RUN_B tests two runs, or two folders of runs, against each other.
    """
    from dao.learner.console.command import user_errors

    modes = {
        "--data": data, "--text": text, "--input": source, "--benchmark": benchmark,
        "--export": export, "--quantize": quantize, "--threshold-sweep": threshold_sweep,
        "--compare-to": compare_to, "--merge-experts": merge_experts,
    }  # fmt: skip
    chosen = [name for name, given in modes.items() if given]
    if str(run) == "compare":
        others = (*chosen, output, engine, expert_weights, device)
        _compare(overrides or [], style, any(others))
        return
    if len(text_pair or []) not in (0, len(text or [])):
        raise typer.BadParameter("--text-pair goes with --text, once for each.")
    if any(not typed.strip() for typed in (*(text or []), *(text_pair or []))):
        raise typer.BadParameter("--text and --text-pair should not be empty.")
    columns, encoder = _sorted(overrides or [], run)
    _check_usage(chosen, output, bool(engine or columns), style, expert_weights)
    with user_errors():
        from dao.learner.pipeline.elsewhere import RunElsewhere

        folder, style = RunElsewhere(run, encoder), style or "terminal"
        folder.check_finished()
        load = partial(_load, folder, device, engine or "eager")
        if merge_experts and output:
            _merge(folder, load, merge_experts, expert_weights, output, style)
        elif benchmark or quantize or threshold_sweep or compare_to:
            other = RunElsewhere(compare_to) if compare_to else None
            mode = "sweep" if threshold_sweep else "quantize" if quantize else "benchmark"
            _measure(folder, load, style, mode, output or run, other, device)
        elif export:
            _export(folder, load, export)
        elif text or source:
            from dao.learner.basics.pairs import typed

            texts = typed(text, text_pair, folder.config().data.text) if text else []
            _predict(load, _columns(folder, columns), texts, source, output)
        else:
            _report(folder, load, _columns(folder, columns), data or [], style)


def _check_usage(
    chosen: list[str], output: Path | None, more: bool, style: str | None, weights: str | None
) -> None:
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other.")
    mode = chosen[0] if chosen else ""
    if output is None and mode == "--merge-experts":
        raise typer.BadParameter("--merge-experts goes together with --output.")
    if output is not None and mode not in TAKE_OUTPUT:
        raise typer.BadParameter(f"--output goes with {', '.join(TAKE_OUTPUT)}.")
    if weights and mode != "--merge-experts":
        raise typer.BadParameter("--expert-weights goes with --merge-experts.")
    if more and mode not in ("", "--data", "--text", "--input"):
        raise typer.BadParameter("--engine and columns are for reports and predictions.")
    if style and mode in ("--text", "--input", "--export"):
        raise typer.BadParameter("--format is for reports and comparisons.")


def _compare(paths: list[str], style: str | None, others: bool) -> None:
    from dao.learner.console.command import user_errors

    if len(paths) != 2 or others:
        raise typer.BadParameter("compare takes two runs or folders, and --format.")
    with user_errors():
        from dao.learner.experiment.report.comparison_report import print_comparison

        print_comparison(Path(paths[0]), Path(paths[1]), style or "terminal")


def _sorted(overrides: list[str], run: Path) -> tuple[list[str], str]:
    """The columns of new data, and where the encoder is."""
    columns = [o for o in overrides if not o.startswith(ENCODER)]
    if columns:
        from dao.learner.kinds.declared import BUILT_IN

        tasks = _tasks(run)
        names = dict.fromkeys(("text", *tasks, *BUILT_IN, *TABLE))
        known = [f"data.{name}=" for name in names] + [f"{task}.column=" for task in tasks]
        if refused := [o for o in columns if not o.startswith(tuple(known))]:
            raise typer.BadParameter(
                f"only what new data are like (data.NAME=VALUE, of "
                f"{', '.join(('text', *tasks, *TABLE))}) and {ENCODER}FOLDER can be set: "
                f"{refused[0]}"
            )
    places = [o.removeprefix(ENCODER) for o in overrides if o.startswith(ENCODER)]
    return columns, next(reversed(places), "")


def _tasks(run: Path) -> list[str]:
    from dao.learner.console.command import user_errors
    from dao.learner.storage.record import RunFolder

    with user_errors():
        return list(RunFolder(run).config().tasks)


def _columns(folder: RunElsewhere, overrides: list[str]) -> Columns:
    from dao.learner.basics.pairs import check_number
    from dao.learner.data.load import Columns

    # New data may have another encoding than the run's. A run with rules=1 knows no missing words,
    # so naming some asks for rules=2.
    own = ["data.encoding=utf-8", *overrides]
    if any(o.startswith("data.missing=") for o in own):
        own.append("data.rules=2")
    cfg = folder.config(own)
    check_number(cfg.data.text, folder.config().data.text)
    return Columns.named(cfg.data, cfg.columns, cfg.words_column)


def _report(folder: RunFolder, load: Load, columns: Columns, data: list[str], style: str) -> None:
    from dao.errors import UserError
    from dao.learner.console.command import show
    from dao.learner.console.report import summary
    from dao.learner.data.load import ceilings
    from dao.learner.data.unseen import load_unseen, overlap
    from dao.learner.experts.routing import routing_figures
    from dao.learner.scoring.assessment import assess, slice_columns
    from train import load_table

    cfg, metrics, lines = folder.config(), folder.read("metrics.json"), []
    trained = learnt = None
    try:
        trained = load_table(cfg)
        folder.check_same_data(trained.report)
        learnt = trained.rows("train"), trained.rows("validation")
    except UserError as error:
        if not data:
            raise UserError(f"{error} Or measure on another file with --data.") from None
        lines = [f"no baselines, no check for overlap with the training data: {error}"]
    tasks, predictor, notes = load()
    table = load_unseen(data, columns, tasks=tasks) if data else trained
    if data and learnt is not None:
        lines = [f"{overlap(trained, table)} of these rows were in the training data"]
    if data and cfg.data.where:
        lines.append(f"not applied to these rows: data.where of the run, {dict(cfg.data.where)}")
    tasks = {name: task for name, task in tasks.items() if name in table.frame}
    further = table.frame.drop(columns=list(tasks))
    chosen = None if data else cfg.data.slices
    slices = slice_columns(chosen, further, cfg.target_columns, cfg.tasks)
    rows = table.rows("test")
    outputs = predictor(rows["text"].tolist())
    lines += notes
    parts = assess(outputs, tasks, rows, learnt, ceilings(table, tasks, "test"), slices)
    for part, content in parts.items():
        metrics[part] = {**({} if data else metrics[part]), "test": content}
    if cfg.routed:
        metrics["routing"] = {"test": routing_figures(predictor, tasks, rows)}
    metrics |= {"data": table.report, "notes": lines}
    show(metrics, [*lines, *summary(metrics)], style)


def _predict(
    load: Load, columns: Columns, texts: list[str], source: Path | None, output: Path | None
) -> None:
    from dao.learner.console.command import beside_input, print_predictions
    from dao.learner.data.unseen import read_texts
    from dao.learner.storage.record import check_writable

    if output:
        check_writable(output)
    rows = None
    if source:
        rows, texts = read_texts(str(source), columns)
    tasks, predictor, notes = load()
    table = predictor.table(texts, tasks)
    if rows is not None:
        shown = predictor.text_columns(texts)
        table, renamed = beside_input(rows, table.drop(columns=list(shown)))
        notes += renamed
    piped = rows is not None and not sys.stdout.isatty()
    print_predictions(table, notes, output, piped=piped)


def _measure(
    folder: RunFolder, load: Load, style: str, mode: str, place: Path, other: RunElsewhere | None,
    device: str | None,
) -> None:  # fmt: skip
    from dao.learner.commands import evaluation
    from train import load_table

    if other:
        other.check_finished()
    table = load_table(folder.config())
    folder.check_same_data(table.report)
    tasks, predictor, _ = load()
    rows = table.rows("test")
    if other:
        from dao.learner.experiment.report.side_by_side import print_beside

        tasks_b, predictor_b, _ = _load(other, device, "eager")
        print_beside((folder, predictor, tasks), (other, predictor_b, tasks_b), rows, style)
    elif mode == "sweep":
        evaluation.print_sweep(predictor, tasks, table, place, style)
    elif mode == "quantize":
        evaluation.print_quantized(folder, predictor, tasks, rows, place, style)
    else:
        evaluation.print_engines(folder, predictor, tasks, rows, style)


def _merge(
    folder: RunFolder, load: Load, rule: Rule, weights: str | None, output: Path, style: str
) -> None:
    from dao.learner.console.command import show_tables
    from dao.learner.console.result_tables import main_of_tasks, variants_tables
    from dao.learner.experts.merging import merge_and_measure
    from train import load_table

    table = load_table(folder.config())
    folder.check_same_data(table.report)
    tasks, predictor, _ = load()
    rows = table.rows("test")
    found, lines = merge_and_measure(folder, predictor, tasks, rows, rule, weights, output)
    show_tables(found, variants_tables("test", main_of_tasks(tasks), found), lines, style)


def _export(folder: RunFolder, load: Load, path: Path) -> None:
    from dao.learner.inference.exporting import export_run

    tasks, predictor, _ = load()
    for line in export_run(folder, predictor, tasks, path):
        print(line)


def _load(
    folder: RunElsewhere, device: str | None, engine: EngineName
) -> tuple[dict[str, Task], Predictor, list[str]]:
    from dao.learner.inference.engines import make_engine
    from dao.learner.inference.predictor import pick_device, reload
    from dao.learner.kinds.recorded import restored_tasks

    tasks = restored_tasks(folder.read("tasks.json"))
    outputs = {name: task.outputs for name, task in tasks.items()}
    predictor = reload(folder, outputs, pick_device(device or folder.config().device))
    predictor, merged = make_engine(engine, predictor)
    notes = folder.told() + ([f"engine {engine}: {merged}"] if merged else [])
    # Filled by predictions, and read after them.
    return tasks, replace(predictor, note=notes.append), notes


if __name__ == "__main__":
    app()
