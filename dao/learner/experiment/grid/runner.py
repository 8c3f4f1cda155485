"""The experiment: arms x seeds, each run as a process of its own, then the findings.

`train.py --factorial` in one function. A run is done when its metrics.json exists, so the command
can be stopped and given again, here or elsewhere: what is missing runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.live import Live

from dao.errors import UserError
from dao.learner.console.command import print_plan
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.arms import KNOWN, SETS_APART, chosen
from dao.learner.experiment.findings.runs import flat
from dao.learner.experiment.grid.backends import on_ray, on_this_machine
from dao.learner.experiment.grid.board import Board
from dao.learner.experiment.grid.factorial import (
    Cell,
    check_not_other,
    check_shared,
    experiment_folder,
    factorial_cells,
    without_pair,
)
from dao.learner.experiment.grid.job import After, Outcome, RunJob
from dao.learner.processes import ranks
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.reading import parse_overrides
from dao.learner.storage.record import RunFolder

__all__ = ["Options", "check_one_process", "conclude", "outcomes", "run_factorial", "tidy"]

BACKENDS = ("local", "ray")
LOCKS = ".locks"


@dataclass(frozen=True)
class Options:
    """The flags of the experiment.

    Attributes:
        seeds: how many, from 0.
        jobs: runs at a time; None: one on this machine, and what a cluster has room for.
        backend: `local` or `ray`.
        only: cells such as dao/3, for a scheduler that starts each run by itself; empty: all.
        arms: their names; empty: those that `arms.chosen` takes for the tasks.
    """

    seeds: int = 5
    jobs: int | None = None
    backend: str = "local"
    only: Sequence[str] = ()
    arms: Sequence[str] = ()

    @classmethod
    def given(cls, factorial: bool, flags: Mapping[str, Any], *, alone: bool) -> Options | None:
        """What the flags say; None without --factorial.

        Args:
            factorial: whether there is an experiment.
            flags: by field; None where not given.
            alone: whether there is a flag that is of one run only.

        Raises:
            typer.BadParameter: flags that exclude each other.
        """
        flags = {name: value for name, value in flags.items() if value is not None}
        if not factorial:
            if flags:
                raise typer.BadParameter(f"--{next(iter(flags))} needs --factorial.")
            return None
        if alone:
            raise typer.BadParameter(
                "--factorial continues by itself and replaces nothing; leave out --resume and "
                "--overwrite, and remove the folders of runs that are to be made again."
            )
        names = flags.pop("arms", None)
        arms = () if names is None else tuple(name.strip() for name in names.split(","))
        return cls(**flags, arms=arms)


def run_factorial(
    settings: tuple[Path | None, list[str], Mapping[str, Any]],
    options: Options,
    command: Sequence[str],
    read_data: Callable[[Config], tuple[Config, TableLike, object]],
    *,
    dry_run: bool = False,
) -> None:
    """Run what is missing of the grid, and once all of it was tried, write findings and report.

    Args:
        settings: that all runs have; YAML file, overrides and flags, as `load_config` takes them.
        options: of the experiment.
        command: what trains; it is given the arguments of train.py.
        read_data: the table of a run, or the error for which it would be refused, before there
            are dozens.
        dry_run: only show what would be done.

    Raises:
        UserError: settings that the arms set; a run with other settings; runs that failed.
        typer.Exit: stopped.
    """
    _check(options)
    path, overrides, flags = settings
    shared = load_config(path, overrides, flags)
    check_shared(shared, {*flags, *dict(parse_overrides(overrides))})
    if shared.undecided:  # the kinds of the tasks are proposed once, for all arms
        shared = read_data(shared)[0]
    cells = factorial_cells(shared, options.seeds, options.only, options.arms)
    for cell in cells:
        check_not_other(cell)
    folder = experiment_folder(shared)
    console = plain_console(stderr=not dry_run, soft_wrap=True)
    missing = [cell for cell in cells if not RunFolder(cell.cfg.folder).finished]
    for cfg in {cell.arm: cell.cfg for cell in missing}.values():
        read_data(without_pair(cfg))
    if dry_run:
        _describe(cells, folder, console)
        print_plan(cells[0].cfg, read_data(without_pair(cells[0].cfg))[1])
        return
    try:
        failed = _work_off(cells, missing, folder, options, command, console)
        tidy(cells, folder)
        asked = chosen(list(shared.tasks), options.arms, shared.dendrites.lr)
        arms = None if options.only else asked
        _end(folder, failed, console, arms)
    except KeyboardInterrupt:
        console.print("stopped; the same command again continues with what is missing")
        raise typer.Exit(130) from None


def conclude(folder: Path, arms: Sequence[str] | None = None) -> None:
    """From the runs to findings and report, written and printed; imported late, for it draws.

    Args:
        folder: of the experiment.
        arms: that it should have, by default those of an experiment on its tasks; others that are
            there are reported as well.
    """
    from dao.learner.experiment.findings.effects import findings
    from dao.learner.experiment.report.report import write_report
    from dao.learner.experiment.report.terminal import print_report

    found = findings(folder, arms)
    write_report(folder, found)
    print_report(folder, found)


def _check(options: Options) -> None:
    if options.backend not in BACKENDS:
        raise UserError(f"--backend should be local or ray. Found {options.backend!r}.")
    check_one_process()


def check_one_process() -> None:
    """Refuse a launcher of several processes.

    Raises:
        UserError: there are several.
    """
    if ranks.several():
        raise UserError(
            "--factorial and --grid should run as one process, which starts one for each run. "
            "Found several. Start it without a launcher; --jobs N makes N runs at a time."
        )


def _work_off(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    folder: Path,
    options: Options,
    command: Sequence[str],
    console: Console,
) -> list[Outcome]:
    """The outcomes of the runs that failed."""
    board = Board(cells, console.width)
    shown = len(cells) - len(missing)
    console.print(f"{folder}: {shown} of {len(cells)} runs are done", highlight=False)
    live = Live(get_renderable=board.view, console=console, refresh_per_second=1)
    # Closed at once when stopped: no process is left behind.
    ending = closing(outcomes(missing, folder, options, command))
    with ending as ended, live if console.is_terminal else nullcontext():
        for outcome in ended:
            if not outcome.finished:
                board.failed[outcome.name] = outcome
            if not console.is_terminal:
                console.print(board.line(outcome), highlight=False)
    return list(board.failed.values())


def outcomes(
    missing: Sequence[Cell], folder: Path, options: Options, command: Sequence[str]
) -> Generator[Outcome]:
    """Work off the runs, and yield how each ended."""
    if not missing:
        return
    workers = options.jobs or 1
    local = options.backend == "local"
    threads = _threads(torch.get_num_threads() // workers if local else 1)
    jobs = [_job(cell, folder, tuple(command), threads) for cell in missing]
    yield from on_this_machine(jobs, workers) if local else on_ray(jobs, options.jobs)


def _threads(share: int) -> int:
    """OMP_NUM_THREADS where it is set, else this share of the processors."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else max(1, share)


def _job(cell: Cell, folder: Path, command: tuple[str, ...], threads: int) -> RunJob:
    return RunJob(
        name=cell.name,
        folder=cell.cfg.folder,
        lock=_lock(cell, folder),
        command=command,
        settings=cell.cfg.to_yaml(),
        threads=threads,
        gpus=int(cell.cfg.device.startswith("cuda")),
        place=Path.cwd(),
        after=_paired(cell, folder),
    )


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


def _end(
    folder: Path, failed: Sequence[Outcome], console: Console, arms: Sequence[str] | None
) -> None:
    """Say what failed; write the report on these arms, or no report where `arms` is None."""
    for outcome in failed:
        line = f"{outcome.name} failed: {outcome.reason}"
        console.print(line, highlight=False)
    if arms is not None:
        try:
            conclude(folder, arms)
        except UserError as error:
            if not failed:
                raise
            # The failures of the runs matter more, and are raised below.
            console.print(f"no report: {error}", highlight=False)
    if failed:
        logs = ", ".join(str(folder / f"{o.name.replace('/', '/seed=')}.log") for o in failed)
        raise UserError(
            f"Every run should end. Found {len(failed)} that did not. Read {logs}, then give the "
            f"same command again: it runs what is missing."
        )
    if arms is None:
        console.print("the report is written by the command without --only")


def _describe(cells: Sequence[Cell], folder: Path, console: Console) -> None:
    done = {cell.name for cell in cells if RunFolder(cell.cfg.folder).finished}
    console.print(Board(cells, console.width).table())
    for arm, cfg in {cell.arm: cell.cfg for cell in cells}.items():
        settings = flat(cfg.model_dump(mode="json")) | {"tasks": list(cfg.tasks)}
        shown = {**dict.fromkeys(SETS_APART), **KNOWN.get(arm, {})}
        own = " ".join(f"{k}={_plain(settings[k])}" for k in shown if k != "split_tasks")
        console.print(f"# {arm}: {own}", highlight=False)
    console.print(
        f"# experiment: {folder}, {len(cells) - len(done)} of {len(cells)} runs to do",
        highlight=False,
    )  # fmt: skip


def _plain(value: object) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value).lower()
