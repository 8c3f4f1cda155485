"""`dao predict`: what a finished run makes of texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dao.command import spare, uncollected
from dao.errors import UserError
from dao.learner.commands import options as o
from dao.learner.commands.finished import columns_of, finished, sort_out

if TYPE_CHECKING:
    from dao.learner.inference.elsewhere import RunElsewhere
    from dao.learner.inference.engines import EngineName
    from dao.learner.inference.load import Model

__all__ = ["check_share", "check_texts", "predict", "predict_file", "predict_texts"]

OTHER_FORMATS = (".xlsx", ".xls", ".ods", ".parquet", ".json", ".jsonl")
"""Ends of names that promise what a CSV file is not."""

Columns = dict[str, Sequence[Any]]


def predict(
    run: o.Run,
    overrides: o.NewColumns = None,
    text: o.Text = None,
    text_pair: o.TextPair = None,
    source: o.Source = None,
    output: Annotated[
        Path | None, typer.Option(help="CSV of --input with the predictions, else printed.")
    ] = None,
    engine: o.EngineOption = None,
    device: o.RunDevice = None,
    coverage: o.Coverage = None,
) -> None:
    """Predict every text of a file of any size, or single texts.

    The columns and the order of the file stay, and the predictions follow them. Without --output
    a terminal shows a JSON line per row, and a pipe gets CSV.
    """
    if bool(text) == bool(source):
        raise typer.BadParameter("give either --text or --input.")
    if output and not source:
        raise typer.BadParameter("--output goes with --input.")
    check_texts(text, text_pair)
    check_share(coverage)
    columns, encoder = sort_out(overrides or [], run)
    with uncollected():
        from dao.learner.console.errors import user_errors

    with user_errors():
        folder = finished(run, encoder)
        if folder.config().encoder.quantize == "none" and (engine or "eager") == "eager":
            spare("scipy")  # transformers would import it, and the eager model does not need it
        if source:
            predict_file(folder, source, columns, output, device, engine or "eager", coverage)
        else:
            predict_texts(folder, text or [], text_pair, device, engine or "eager", coverage)


def check_texts(text: Sequence[str] | None, text_pair: Sequence[str] | None) -> None:
    """Refuse empty texts, and second texts without first ones.

    Raises:
        typer.BadParameter: so it is.
    """
    if len(text_pair or []) not in (0, len(text or [])):
        raise typer.BadParameter("--text-pair goes with --text, once for each.")
    if any(not typed.strip() for typed in (*(text or []), *(text_pair or []))):
        raise typer.BadParameter("--text and --text-pair should not be empty.")


def check_share(coverage: float | None) -> None:
    """Refuse a coverage that is no share of texts.

    Raises:
        typer.BadParameter: so it is.
    """
    if coverage is not None and not 0 < coverage < 1:
        raise typer.BadParameter(f"--coverage should be between 0 and 1. Found {coverage:g}.")


def predict_texts(
    folder: RunElsewhere,
    text: Sequence[str],
    text_pair: Sequence[str] | None,
    device: str | None,
    engine: EngineName,
    coverage: float | None = None,
) -> None:
    """Print a JSON line per text, its answers behind it; notes go to stderr.

    Raises:
        UserError: the run takes pairs and there are none, or the reverse; as `opened` and
            `Model.covered`.
    """
    from dao.learner.basics.pairs import typed
    from dao.learner.console.predictions import print_lines
    from dao.learner.kinds.certainty.probable import rule_of

    texts = typed(text, text_pair, folder.config().data.text)
    model = _loaded(folder, device, engine)
    regions = None if coverage is None else model.covered(coverage)
    ids = model.predictor.tokens(texts)
    outputs = model.predictor.of_tokens(ids)
    answers = model.predictor.answers_of(ids, outputs, model.tasks, regions)
    rules = [f"{name}: {rule}" for name, task in model.tasks.items() if (rule := rule_of(task))]
    unsure = {} if regions is None else regions.unsure(outputs)
    _tell([*model.notes(), *rules, *_of_coverage(model, coverage, engine), *_unsure(unsure)])
    found: Columns = {**model.predictor.text_columns(texts), **answers}
    print_lines([found])


def predict_file(
    folder: RunElsewhere,
    source: Path,
    overrides: Sequence[str],
    output: Path | None,
    device: str | None,
    engine: EngineName,
    coverage: float | None = None,
) -> None:
    """Predict every row of a file, some rows at a time; notes and progress go to stderr.

    Raises:
        UserError: the file cannot be used or has a row without text, found before anything is
            predicted; the output cannot be written; as `opened` and `Model.covered`.
    """
    from dao.learner.console import predictions
    from dao.learner.data.texts import read_texts
    from dao.learner.storage.record import check_writable

    if output:
        if output.suffix.lower() in OTHER_FORMATS:
            raise UserError(
                f"--output should be a CSV file, which every spreadsheet opens. Found {output}. "
                f"Give it a name that ends in .csv."
            )
        check_writable(output)
        if output.exists() and source.exists() and output.samefile(source):
            raise UserError(
                f"The output should be another file than the input. Found {output} as both. "
                f"Choose another --output."
            )
    texts = read_texts(str(source), columns_of(folder, overrides))
    model = _loaded(folder, device, engine)
    of_coverage = _of_coverage(model, coverage, engine)
    answers = partial(model.answers, coverage=coverage)
    parts = predictions.completed(texts, answers, _tell)
    parts = predictions.told_progress(parts, texts.number)
    if output:
        predictions.write_table(parts, output)
        print(f"{texts.number} predictions in {output}")
    elif sys.stdout.isatty():
        predictions.print_lines(parts)
    else:
        predictions.write_csv(parts, sys.stdout)
    _tell([*texts.said, *model.notes(), *of_coverage])


def _loaded(folder: RunElsewhere, device: str | None, engine: EngineName) -> Model:
    with uncollected():
        from dao.learner.inference.load import opened

        return opened(folder, device, engine)


def _of_coverage(model: Model, coverage: float | None, engine: EngineName) -> list[str]:
    """What sets and intervals reached on test rows, and which tasks have none, if asked for."""
    from dao.learner.calibration.told import reached

    if coverage is None:
        return []
    covered, metrics = model.covered(coverage), model.folder.read("metrics.json")
    each = {name: reached(metrics, name, coverage, engine) for name in covered.tasks}
    lines = [f"{name}: coverage {line}" for name, line in each.items()]
    return [*covered.notes(), *lines]


def _unsure(marks: Mapping[str, Iterable[bool]]) -> list[str]:
    """A line per text on the tasks whose set has several classes.

    Example:
        >>> _unsure({"cls": [True, False, True], "stars": [True, False, False]})
        ['text 1: unsure of cls, stars', 'text 3: unsure of cls']
    """
    each = [list(compress(marks, row)) for row in zip(*marks.values(), strict=True)]
    return [f"text {i}: unsure of {', '.join(tasks)}" for i, tasks in enumerate(each, 1) if tasks]


def _tell(lines: Sequence[str]) -> None:
    from dao.learner.console.terminal import printable

    for line in lines:
        print(printable(line), file=sys.stderr)
