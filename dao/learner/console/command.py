"""The plan of a run and its report, printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from dao.learner.batches.sampling import sampling_counts, sampling_line
from dao.learner.console.report import WIDE, markdown, summary
from dao.learner.console.result_tables import tables_of
from dao.learner.console.terminal import as_markdown, plain_console
from dao.learner.data.report import kind_notes
from dao.learner.encoder.scratch import planned_encoder
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config
from dao.learner.settings.train_section import Train
from dao.learner.storage.claiming import check_own
from dao.learner.storage.record import RunFolder

__all__ = [
    "print_plan",
    "print_results",
    "show",
    "show_tables",
]


def print_plan(cfg: Config, table: TableLike, notes: Sequence[str] = ()) -> None:
    """What `--dry-run` shows of a run that `preflight.check` lets pass.

    That is the effective settings, the folder, the encoder and the data, and at last the kinds that
    were proposed, which a person has to look at. A folder that holds a run
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
    console.print(f"# data: {json.dumps(table.report, ensure_ascii=False)}", highlight=False)
    kinds = kind_notes(table.report)
    for note in [line, *(note for note in notes if note not in kinds), *kinds]:
        console.print(f"# {note}", highlight=False)


def _step(cfg: Train) -> str:
    """The size of an optimizer step in words."""
    each = f"{cfg.batch_size} rows"
    if cfg.batch_tokens is not None:
        each = f"at most {cfg.batch_tokens} tokens with padding"
    return f"{cfg.accumulate} x {each}"


def print_results(metrics: Mapping[str, Any], folder: Path, page: Path | None = None) -> None:
    """The report of a finished run.

    Args:
        metrics: The content of its metrics.json.
        folder: The run folder, which is named.
        page: The page of the run, which is named where there is one.
    """
    pictures = [f"page: {page}"] if page else []
    show(metrics, [*summary(metrics), f"run folder: {folder}", *pictures])


def show(metrics: Mapping[str, Any], lines: Sequence[str], style: str = "terminal") -> None:
    """Print figures as `terminal` tables, `markdown` or `json`."""
    show_tables(metrics, tables_of(metrics), lines, style)


def show_tables(
    content: Mapping[str, Any], tables: Sequence[Table], lines: Sequence[str], style: str
) -> None:
    """Print `tables` and `lines`, or as `json` the `content` that they were made of."""
    if style == "json":
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    if style == "markdown":
        print("\n".join([markdown(tables), *(f"- {as_markdown(line)}" for line in lines)]))
        return
    console = plain_console(width=None if sys.stdout.isatty() else WIDE)
    for table in tables:
        console.print(table)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
