"""What both command lines share: errors as one line, the plan of a run, the printed report."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import typer
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError

from dao.errors import UserError
from dao.learner.batches.sampling import sampling_counts, sampling_line
from dao.learner.console.report import WIDE, markdown, summary
from dao.learner.console.result_tables import results_tables, routing_tables, slices_tables
from dao.learner.console.terminal import as_markdown, plain_console, printable, styled
from dao.learner.dendrites.dendrites import DendriteError
from dao.learner.encoder.scratch import planned_encoder
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config
from dao.learner.settings.train_section import Train
from dao.learner.storage.claiming import check_own
from dao.learner.storage.files import csv_text, write_atomically
from dao.learner.storage.record import RunFolder

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")

__all__ = [
    "beside_input",
    "print_plan",
    "print_predictions",
    "print_results",
    "show",
    "show_tables",
    "user_errors",
]


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an error of the user's input, or of the dendrites, into one line on stderr and exit 1.

    Any other exception is a bug and keeps its traceback.
    """
    console = plain_console(stderr=True, soft_wrap=True)
    try:
        yield
    except (UserError, DendriteError, OSError, SafetensorError, RuntimeError, MemoryError) as error:
        message = _explain(error)
        if message is None:
            raise
        line = Text.assemble(styled("error:", "bold red"), f" {printable(message)}")
        console.print(line, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stop:
        how = str(stop) or "train.py --resume continues a run that has a checkpoint"
        console.print(f"stopped; {how}", highlight=False)
        raise typer.Exit(130) from None


def _explain(error: Exception) -> str | None:
    """One line for an error that is not a bug; None for one that is."""
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f" {error.filename}"
        return f"The system refused{place}: {error.strerror}. Look at permissions and space."
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in message for words in OUT_OF_MEMORY)
    ):
        return (
            f"The memory should be enough. Found it exhausted: {message[:120] or 'MemoryError'}. "
            f"Lower train.batch_size (and raise train.accumulate) or encoder.max_length, set "
            f"encoder.gradient_checkpointing=true, or quantise with --quantize nf4; then start "
            f"again with --overwrite."
        )
    known = isinstance(error, UserError | DendriteError | OSError | SafetensorError)
    return message if known else None


def print_plan(cfg: Config, table: TableLike, notes: Sequence[str] = ()) -> None:
    """What `--dry-run` shows of a run that `preflight.check` lets pass.

    That is the effective settings, the folder, the encoder and the data. A folder that holds a run
    is told and not refused, so that the settings beside a run can be looked at.

    Args:
        cfg: The settings, with every task's kind.
        table: The data.
        notes: What a training prints of the data and the tasks before its first step.

    Raises:
        UserError: the run folder holds files that no run writes.
    """
    check_own(RunFolder(cfg.folder))
    encoder = planned_encoder(cfg.encoder)
    console = plain_console(soft_wrap=True)
    console.print(cfg.to_yaml(), highlight=False)
    taken = "; holds a run already, see --resume, --overwrite, --output"
    used = taken if RunFolder(cfg.folder).started else ""
    console.print(f"# run folder: {cfg.folder}{used}", highlight=False)
    console.print(f"# encoder: {encoder}", highlight=False)
    if cfg.dendrites.enabled and cfg.dendrites.control == "none":
        times, rate = cfg.dendrites.lr, cfg.dendrites.lr * cfg.train.lr
        told = f"# dendrites: learning rate {times:g} x train.lr = {rate:g} at most"
        console.print(told, highlight=False)
    console.print(f"# optimizer step: {_step(cfg.train)}", highlight=False)
    labels: dict[str, Any] = {task: table.rows("train")[task].notna() for task in cfg.tasks}
    line = sampling_line(sampling_counts(labels, cfg.train.sampling))
    for note in [line, *notes]:
        console.print(f"# {note}", highlight=False)
    console.print(f"# data: {json.dumps(table.report, ensure_ascii=False)}", highlight=False)


def _step(cfg: Train) -> str:
    """The size of an optimizer step in words."""
    each = f"{cfg.batch_size} rows"
    if cfg.batch_tokens is not None:
        each = f"at most {cfg.batch_tokens} tokens with padding"
    return f"{cfg.accumulate} x {each}"


def print_results(folder: RunFolder) -> None:
    """The report of a finished run."""
    metrics = folder.read("metrics.json")
    show(metrics, [*summary(metrics), f"run folder: {folder.path}"])


def show(metrics: Mapping[str, Any], lines: Sequence[str], style: str = "terminal") -> None:
    """Print figures as `terminal` tables, `markdown` or `json`."""
    tables = []
    for split in (s for s in metrics["splits"] if s != "validation"):
        tables += results_tables(metrics, split)
        tables += [*slices_tables(metrics, split), *routing_tables(metrics, split)]
    show_tables(metrics, tables, lines, style)


def show_tables(
    content: Mapping[str, Any], tables: Sequence[Table], lines: Sequence[str], style: str
) -> None:
    """Print `tables` and `lines`, or as `json` the `content` that they were made of."""
    if style == "json":
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    if style == "markdown":
        print("\n".join([*map(markdown, tables), *(f"- {as_markdown(line)}" for line in lines)]))
        return
    console = plain_console(width=None if sys.stdout.isatty() else WIDE)
    for table in tables:
        console.print(table)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def print_predictions(
    table: pd.DataFrame, notes: Sequence[str], output: Path | None, *, piped: bool = False
) -> None:
    """A CSV file; without one a JSON line per row, or CSV where stdout is `piped` to a program.

    Notes go to stderr, so that stdout holds the predictions alone.
    """
    for note in notes:
        print(printable(note), file=sys.stderr)
    if output:
        write_atomically(output, csv_text(table))
        print(f"{len(table)} predictions in {output}")
    elif piped:
        sys.stdout.write(csv_text(table))
    else:
        for row in table.to_dict("records"):
            print(json.dumps(row, ensure_ascii=False, default=str))


def beside_input(rows: pd.DataFrame, found: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Predictions appended to the rows of the input, and a note on each that had to be renamed.

    Args:
        rows: of the input, all columns in their order.
        found: one row of predictions per row, in the same order.

    Returns:
        A prediction whose name is taken by a column of the input is called NAME_2, NAME_3, ...

    Example:
        >>> table, notes = beside_input(pd.DataFrame({"cls": ["up"]}), pd.DataFrame({"cls": ["-"]}))
        >>> list(table), notes
        (['cls', 'cls_2'], ['`cls` is a column of the input: the predictions are in `cls_2`'])
    """
    taken = {*rows.columns, *found.columns}
    names = {
        name: next(new for i in itertools.count(2) if (new := f"{name}_{i}") not in taken)
        for name in found.columns
        if name in rows
    }
    notes = [
        f"`{name}` is a column of the input: the predictions are in `{new}`"
        for name, new in names.items()
    ]
    found = found.rename(columns=names).set_axis(rows.index)
    return pd.concat([rows, found], axis="columns"), notes
