"""The experiment: arms x seeds, each run as a process of its own, then the findings.

`dao experiment` in one function. A run is done when its metrics.json exists, so the command
can be stopped and given again, here or elsewhere: what is missing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from dao.learner.console.command import print_plan
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.arm_settings import flat
from dao.learner.experiment.arms import KNOWN, SETS_APART, chosen
from dao.learner.experiment.grid.factorial import (
    Cell,
    check_not_other,
    check_shared,
    experiment_folder,
    factorial_cells,
    without_pair,
)
from dao.learner.experiment.grid.options import SEEDS, Options, check_options
from dao.learner.experiment.grid.work import describe, end, work_off
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.reading import parse_overrides
from dao.learner.storage.record import RunFolder

__all__ = ["conclude", "run_factorial"]


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
        command: what trains; it is given the arguments of `dao train`.
        read_data: the table of a run, or the error for which it would be refused, before there
            are dozens.
        dry_run: only show what would be done.

    Raises:
        UserError: settings that the arms set; a run with other settings; runs that failed.
        typer.Exit: stopped.
    """
    check_options(options)
    path, overrides, flags = settings
    shared = load_config(path, overrides, flags)
    check_shared(shared, {*flags, *dict(parse_overrides(overrides))})
    if shared.undecided:  # the kinds of the tasks are proposed once, for all arms
        shared = read_data(shared)[0]
    cells = factorial_cells(shared, options.seeds or SEEDS, options.only, options.arms)
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
        failed = work_off(cells, missing, folder, options, command, console)
        asked = chosen(list(shared.tasks), options.arms, shared.dendrites.lr)
        end(folder, failed, console, None if options.only else partial(conclude, folder, asked))
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


def _describe(cells: Sequence[Cell], folder: Path, console: Console) -> None:
    own = {}
    for arm, cfg in {cell.arm: cell.cfg for cell in cells}.items():
        settings = flat(cfg.model_dump(mode="json")) | {"tasks": list(cfg.tasks)}
        shown = {**dict.fromkeys(SETS_APART), **KNOWN.get(arm, {})}
        own[arm] = {key: settings[key] for key in shown if key != "split_tasks"}
    describe(cells, folder, own, console)
