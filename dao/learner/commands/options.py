"""What the commands can be given, and the settings of a run that their options amount to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Settings = tuple[Path | None, list[str], dict[str, Any]]
"""YAML file, KEY=VALUE and flags, as `dao.learner.settings.config.load_config` takes them."""

_grid = partial(typer.Option, rich_help_panel="The experiment: DAO x dendrites, and controls")

# Of a run.
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Any setting, such as train.epochs=3."),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        help="Columns to learn, such as topic,stars:ordinal; a kind that is not given "
        "is proposed from the data."
    ),
]
UseDao = Annotated[
    bool | None, typer.Option("--dao/--no-dao", help="Balance the losses; --weighting dao.")
]
Weighting = Annotated[
    str | None,
    typer.Option(help="dao, equal, fixed:1,30 or fixed:TASK=W, gls, torchjd:UPGrad, ..."),
]
Dendrites = Annotated[bool | None, typer.Option(help="Grow dendrites.")]
Data = Annotated[
    list[str] | None,
    typer.Option(help="CSV, Excel, Parquet, JSON(L) file or hub id; repeat to merge several."),
]
Experts = Annotated[
    str | None, typer.Option(help="A LoRA expert per domain and a router: news,forum.")
]
DomainColumn = Annotated[
    str | None, typer.Option(help="Column with each row's domain. Default: domain.")
]
EncoderName = Annotated[
    str | None, typer.Option(help="Hub id or folder of a Hugging Face text model.")
]
QuantizeBase = Annotated[str | None, typer.Option(help="none, nf4 or int8.")]
Seed = Annotated[int | None, typer.Option()]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
RunOutput = Annotated[str | None, typer.Option(help="The run folder.")]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
Resume = Annotated[Path | None, typer.Option(help="Continue the run in this folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")]

# Of many runs.
Factorial = Annotated[bool, _grid("--factorial", help="All arms, over several seeds.")]
PlanFile = Annotated[
    Path | None, _grid("--plan", help="YAML file with arms of your own, in place of the built-in.")
]
Seeds = Annotated[
    int | None, _grid(min=1, help="How many, from 0. Default: 5, or those of the plan.")
]
Arms = Annotated[
    str | None,
    _grid(help="Some of the arms, NAME,NAME; also dao-paper. Default: all others."),
]
Jobs = Annotated[int | None, _grid(min=1, help="Runs at a time, also of --grid. Default: 1.")]
Backend = Annotated[str | None, _grid(help="local, or ray: the workers of a cluster.")]
Only = Annotated[list[str] | None, _grid(help="One run, such as dao/3; repeatable.")]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="KEY=VALUE,...",
        help="Run every combination of values; the best on validation is named; repeatable.",
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(
        "--tune",
        metavar="KEY=LOW..HIGH or A|B",
        help="Let optuna search a range, or choose among values; TASK.weight is a constant loss "
        "weight; repeatable.",
    ),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Runs of --tune. Default: 20.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.0, help="No run of --tune begins later than that.")
]

# Of a finished run.
Run = Annotated[Path, typer.Argument(help="A run folder that training wrote.")]
NewColumns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Columns of new data: data.text=NAME, data.TASK=NAME, ..., their data.encoding and "
        "data.missing; encoder.name=FOLDER, where the encoder of the run is now.",
    ),
]
NewData = Annotated[
    list[str] | None, typer.Option(help="Labelled file to measure on; repeat for several.")
]
Style = Annotated[
    Literal["terminal", "markdown", "json"] | None,
    typer.Option("--format", help="Of the report or comparison; default: terminal."),
]
ReportStyle = Annotated[
    Literal["terminal", "markdown", "json", "html"] | None,
    typer.Option(
        "--format",
        help="Of the report or comparison; html: the page report.html of the run, in its folder, "
        "from what it has saved. Default: terminal.",
    ),
]
Text = Annotated[list[str] | None, typer.Option(help="Predict this; repeat for more.")]
TextPair = Annotated[
    list[str] | None,
    typer.Option(help="Second text of each --text, for a run on pairs of texts."),
]
Source = Annotated[
    Path | None,
    typer.Option("--input", help="Predict every row of a CSV, Excel, ... file; its columns stay."),
]
EngineOption = Annotated[
    Literal["eager", "merged", "bf16", "int8", "onnx", "onnx-int8"] | None,
    typer.Option(help="What runs the model; default: eager, as it was trained."),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Sets of classes (TASK_set) or intervals (TASK_low, TASK_high) that hold the truth in "
        "this share of texts, such as 0.9, and the marks unsure and unlike. Reports measure those "
        "of 0.9 unless told otherwise.",
    ),
]
Benchmark = Annotated[
    bool, typer.Option("--benchmark", help="Compare all engines on the test split.")
]
MergeExperts = Annotated[
    Literal["cat", "svd", "linear", "ties"] | None,
    typer.Option(help="Make one adapter of a run's experts, in the folder --output."),
]
ExpertWeights = Annotated[
    str | None, typer.Option(help="With --merge-experts: .5,.5; default: equal.")
]
QuantizeRun = Annotated[
    Literal["int8"] | None,
    typer.Option(help="Write the model in 8 bits (ONNX), and compare size, speed, figures."),
]
ThresholdSweep = Annotated[
    bool,
    typer.Option(
        "--threshold-sweep",
        help="For each rare or positive class: the threshold of the best F1 on validation, beside "
        "the most probable class on test; threshold.json and precision_recall.png.",
    ),
]
CompareTo = Annotated[
    Path | None,
    typer.Option(help="Another finished run: figures, latency, throughput, size of both."),
]
RunDevice = Annotated[str | None, typer.Option(help="Default: as in training.")]

# Of evaluate.py alone, which does what `dao` has several commands for.
RunOrCompare = Annotated[Path, typer.Argument(help="A run folder of train.py, or: compare.")]
ColumnsOrRuns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]... or RUN_A RUN_B",
        help="Columns of new data: data.text=NAME, data.TASK=NAME, ..., their data.encoding and "
        "data.missing; encoder.name=FOLDER, where the encoder of the run is now; or the two to "
        "compare, each a run or a folder with runs in seed=N.",
    ),
]
AnyOutput = Annotated[
    Path | None,
    typer.Option(
        help="CSV of --input with the predictions, else printed; folder for the files of "
        "--threshold-sweep and --quantize, else the run's."
    ),
]
Export = Annotated[Path | None, typer.Option(help="Write the model to this .onnx, and .onnx.json.")]

FLAGS = {
    "tasks": "tasks", "weighting": "weighting", "dendrites": "dendrites.enabled",
    "data": "data.sources", "experts": "experts.names", "domain_column": "data.domain",
    "encoder": "encoder.name", "quantize": "encoder.quantize", "seed": "seed", "device": "device",
    "output": "output",
}  # fmt: skip
"""Option -> the setting that it is short for."""


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings that the options of a command amount to.

    Args:
        given: option -> its value; None where it was not given.

    Raises:
        typer.BadParameter: two options contradict each other.
    """
    weighting = given["weighting"]
    if given["use_dao"] is not None:
        named = "dao" if given["use_dao"] else "equal"
        if weighting not in (None, named):
            raise typer.BadParameter(f"--weighting {weighting} contradicts --dao/--no-dao.")
        weighting = named
    values = {**given, "weighting": weighting}
    flags = {key: values[name] for name, key in FLAGS.items() if values.get(name) is not None}
    return given["config"], given["overrides"] or [], flags
