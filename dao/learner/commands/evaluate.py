"""`dao evaluate`: figures of a finished run; and what the flags of evaluate.py ask for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dao.learner.commands import options as o
from dao.learner.commands.compare import compare_runs
from dao.learner.commands.export import write_model
from dao.learner.commands.finished import columns_of, finished, sort_out
from dao.learner.commands.predict import check_share, check_texts, predict_file, predict_texts

if TYPE_CHECKING:
    from dao.learner.inference.elsewhere import RunElsewhere
    from dao.learner.inference.engines import EngineName

__all__ = ["evaluate", "program"]

TAKE_OUTPUT = ("--input", "--merge-experts", "--quantize", "--threshold-sweep")
MODES = {
    "--data": "data", "--text": "text", "--input": "source", "--benchmark": "benchmark",
    "--export": "export", "--quantize": "quantize", "--threshold-sweep": "threshold_sweep",
    "--compare-to": "compare_to", "--merge-experts": "merge_experts",
}  # fmt: skip
"""Flag -> option; they exclude each other."""
OF_PROGRAM = ("text", "text_pair", "source", "export")
"""Options of evaluate.py that are commands of their own in `dao`."""


def evaluate(
    run: o.Run,
    overrides: o.NewColumns = None,
    data: o.NewData = None,
    style: o.ReportStyle = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the files of --threshold-sweep and --quantize, else the run's; of "
            "--merge-experts."
        ),
    ] = None,
    engine: o.EngineOption = None,
    benchmark: o.Benchmark = False,
    merge_experts: o.MergeExperts = None,
    expert_weights: o.ExpertWeights = None,
    quantize: o.QuantizeRun = None,
    threshold_sweep: o.ThresholdSweep = False,
    compare_to: o.CompareTo = None,
    device: o.RunDevice = None,
    coverage: o.Coverage = None,
) -> None:
    """Report on a finished run, on its test rows or on new data, or compare ways to run it."""
    _start({**locals(), **dict.fromkeys(OF_PROGRAM)})


def program(given: Mapping[str, Any]) -> None:
    """Do what evaluate.py was asked for: a report, predictions, a comparison or an export.

    Args:
        given: option -> its value; None where it was not given.

    Raises:
        typer.BadParameter: options that exclude each other.
        typer.Exit: bad input, said in one line.
    """
    if str(given["run"]) != "compare":
        _start(given)
        return
    paths = given["overrides"] or []
    others = (*MODES.values(), "output", "engine", "expert_weights", "device", "coverage")
    if len(paths) != 2 or any(given[name] for name in others) or given["style"] == "html":
        raise typer.BadParameter(
            "compare takes two runs or folders, and --format terminal, markdown or json."
        )
    compare_runs(Path(paths[0]), Path(paths[1]), given["style"])


def _start(given: Mapping[str, Any]) -> None:
    check_texts(given["text"], given["text_pair"])
    check_share(given["coverage"])
    columns, encoder = sort_out(given["overrides"] or [], given["run"])
    _check_usage(given, columns)
    from dao.learner.console.errors import user_errors

    with user_errors():
        folder = finished(given["run"], encoder)
        device: str | None = given["device"]
        engine: EngineName = given["engine"] or "eager"
        if given["source"]:
            predict_file(
                folder, given["source"], columns, given["output"], device, engine,
                given["coverage"],
            )  # fmt: skip
        elif given["text"]:
            columns_of(folder, columns)  # refuses a wrong number of texts
            predict_texts(
                folder, given["text"], given["text_pair"], device, engine, given["coverage"]
            )
        elif given["export"]:
            write_model(folder, given["export"], device)
        else:
            _evaluate(folder, columns, given)


def _evaluate(folder: RunElsewhere, columns: list[str], given: Mapping[str, Any]) -> None:
    from dao.learner.commands import reporting
    from dao.learner.inference.load import opened

    if given["style"] == "html":
        reporting.print_page(folder)
        return
    style, place = given["style"] or "terminal", given["output"] or given["run"]
    device: str | None = given["device"]
    engine: EngineName = given["engine"] or "eager"
    load = partial(opened, folder, device, engine)
    if given["merge_experts"]:
        rule, weights = given["merge_experts"], given["expert_weights"]
        reporting.print_merged(folder, load, rule, weights, place, style)
    elif given["compare_to"]:
        other = finished(given["compare_to"])
        reporting.print_both(folder, load, partial(opened, other, device), style)
    elif given["threshold_sweep"]:
        reporting.print_sweep(folder, load, place, style)
    elif given["quantize"]:
        reporting.print_quantized(folder, load, place, style)
    elif given["benchmark"]:
        reporting.print_engines(folder, load, style)
    else:
        reporting.print_report(
            folder, load, columns_of(folder, columns), given["data"] or [], style, given["coverage"]
        )


def _check_usage(given: Mapping[str, Any], columns: list[str]) -> None:
    chosen = [flag for flag, name in MODES.items() if given[name]]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} exclude each other.")
    mode = chosen[0] if chosen else ""
    if given["output"] is None and mode == "--merge-experts":
        raise typer.BadParameter("--merge-experts goes together with --output.")
    if given["output"] is not None and mode not in TAKE_OUTPUT:
        raise typer.BadParameter(f"--output goes with {', '.join(TAKE_OUTPUT)}.")
    if given["expert_weights"] and mode != "--merge-experts":
        raise typer.BadParameter("--expert-weights goes with --merge-experts.")
    if (given["engine"] or columns) and mode not in ("", "--data", "--text", "--input"):
        raise typer.BadParameter("--engine and columns are for reports and predictions.")
    if given["coverage"] is not None and mode not in ("", "--data", "--text", "--input"):
        raise typer.BadParameter("--coverage is for reports and predictions.")
    others = (mode, columns, given["engine"], given["device"], given["coverage"])
    if given["style"] == "html" and any(others):
        raise typer.BadParameter(
            "--format html is of what the run has saved: give it with the run alone."
        )
    if given["style"] and mode in ("--text", "--input", "--export"):
        raise typer.BadParameter("--format is for reports and comparisons.")
