"""Runs that are missing, made one by one or beside each other, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live

from dao.errors import UserError
from dao.learner.experiment.grid.backends import on_ray, on_this_machine
from dao.learner.experiment.grid.board import Board
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.experiment.grid.job import After, Outcome, RunJob
from dao.learner.experiment.grid.options import Options
from dao.learner.experiment.plans.plan import folder_name
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = [
    "LOCKS",
    "describe",
    "end",
    "job_of",
    "outcomes",
    "threads_of_each",
    "tidy",
    "work_off",
]

LOCKS = ".locks"
"""Folder in that of an experiment or a search, with a file per run that somebody is at work on."""


def work_off(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    folder: Path,
    options: Options,
    command: Sequence[str],
    console: Console,
    lost: Mapping[str, Outcome] | None = None,
) -> list[Outcome]:
    """Make the missing runs, and show how far all are.

    Args:
        cells: all runs of the experiment.
        missing: those to make.
        folder: of the experiment.
        options: of the experiment.
        command: what trains; it is given the arguments of train.py.
        console: takes the table, or a line per run.
        lost: outcomes of runs that failed before and are not made again, by name.

    Returns:
        The outcomes of the runs that failed now.
    """
    before = dict(lost or {})
    board = Board(cells, console.width, dict(before))
    shown = len(cells) - len(missing) - len(before)
    ended = f" and {len(before)} had stopped" if before else ""
    console.print(f"{folder}: {shown} of {len(cells)} runs are done{ended}", highlight=False)
    live = Live(get_renderable=board.view, console=console, refresh_per_second=1)
    # Closed at once when stopped: no process is left behind.
    ending = closing(outcomes(missing, folder, options, command))
    with ending as each, live if console.is_terminal else nullcontext():
        for outcome in each:
            if not outcome.finished:
                board.failed[outcome.name] = outcome
            if not console.is_terminal:
                console.print(board.line(outcome), highlight=False)
    tidy(cells, folder)
    return [outcome for name, outcome in board.failed.items() if name not in before]


def outcomes(
    missing: Sequence[Cell], folder: Path, options: Options, command: Sequence[str]
) -> Generator[Outcome]:
    """Work off the runs, and yield how each ended."""
    if not missing:
        return
    workers = options.jobs or 1
    local = options.backend == "local"
    threads = threads_of_each(torch.get_num_threads() // workers if local else 1)
    jobs = [job_of(cell, folder, tuple(command), threads) for cell in missing]
    yield from on_this_machine(jobs, workers) if local else on_ray(jobs, options.jobs)


def threads_of_each(share: int) -> int:
    """OMP_NUM_THREADS where it is set, else this share of the processors."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else max(1, share)


def job_of(cell: Cell, folder: Path, command: tuple[str, ...], threads: int) -> RunJob:
    """The work of a run for a thread or a worker.

    Args:
        cell: the run.
        folder: of the experiment or the search.
        command: what trains; it is given the arguments of `dao train`.
        threads: for the arithmetic of the run.
    """
    return RunJob(
        name=cell.name,
        folder=cell.cfg.folder,
        lock=_lock(cell, folder),
        command=command,
        settings=_one_of_many(cell.cfg).to_yaml(),
        threads=threads,
        gpus=int(cell.cfg.device.startswith("cuda")),
        place=Path.cwd(),
        after=_paired(cell, folder),
    )


def _one_of_many(cfg: Config) -> Config:
    """The settings, in which a page of the run is written only if that was asked for."""
    train = cfg.train.model_copy(update={"page": bool(cfg.train.page)})
    return cfg.model_copy(update={"train": train})


def _paired(cell: Cell, folder: Path) -> After | None:
    """The run whose growths this one copies."""
    if not cell.cfg.dendrites.growths_of:
        return None
    grown = Path(cell.cfg.dendrites.growths_of)
    name = f"{grown.parent.name}/{cell.seed}"
    return After(name, grown, folder / LOCKS / name.replace("/", "-"))


def _lock(cell: Cell, folder: Path) -> Path:
    return folder / LOCKS / cell.name.replace("/", "-")


def tidy(cells: Sequence[Cell], folder: Path) -> None:
    """Remove the locks of finished runs: nobody will work there again."""
    for cell in cells:
        if RunFolder(cell.cfg.folder).finished:
            _lock(cell, folder).unlink(missing_ok=True)
    with suppress(OSError):  # others still hold some, or there are none
        (folder / LOCKS).rmdir()


def end(
    folder: Path,
    failed: Sequence[Outcome],
    console: Console,
    report: Callable[[], None] | None,
) -> None:
    """Say what failed, and write the report.

    Args:
        folder: of the experiment.
        failed: runs that should have ended and did not.
        console: takes a line per failure.
        report: writes the report; None for no report, after some of the runs alone.

    Raises:
        UserError: a run failed.
    """
    for outcome in failed:
        line = f"{outcome.name} failed: {outcome.reason}"
        console.print(line, highlight=False)
    if report is not None:
        try:
            report()
        except UserError as error:
            if not failed:
                raise
            # The failures of the runs matter more, and are raised below.
            console.print(f"no report: {error}", highlight=False)
    if failed:
        logs = ", ".join(str(folder / f"{_place(o.name)}.log") for o in failed)
        raise UserError(
            f"Every run should end. Found {len(failed)} that did not. Read {logs}, then give the "
            f"same command again: it runs what is missing."
        )
    if report is None:
        console.print("the report is written by the command without --only")


def _place(name: str) -> str:
    """Where the run of a cell is, inside the folder of its experiment."""
    arm, _, seed = name.rpartition("/")
    return f"{folder_name(arm)}/seed={seed}"


def describe(
    cells: Sequence[Cell], folder: Path, own: Mapping[str, Mapping[str, Any]], console: Console
) -> None:
    """Show the runs, and what each arm has of its own: what `--dry-run` prints of an experiment."""
    done = {cell.name for cell in cells if RunFolder(cell.cfg.folder).finished}
    console.print(Board(cells, console.width).table())
    for arm in dict.fromkeys(cell.arm for cell in cells):
        shown = " ".join(f"{key}={_plain(value)}" for key, value in own[arm].items())
        console.print(f"# {arm}: {shown}", highlight=False)
    console.print(
        f"# experiment: {folder}, {len(cells) - len(done)} of {len(cells)} runs to do",
        highlight=False,
    )  # fmt: skip


def _plain(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value).lower()
