"""`--plan FILE`: the runs of an experiment on arms of one's own, and its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.console.command import print_plan
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.grid.factorial import Cell, check_not_other, known_cells, other_settings
from dao.learner.experiment.grid.job import Outcome
from dao.learner.experiment.grid.options import Options, check_options
from dao.learner.experiment.grid.work import describe, end, work_off
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.kept import PLAIN, check_same_plan, keep, kept, stop_file
from dao.learner.experiment.plans.plan import ExperimentPlan, folder_name
from dao.learner.experiment.plans.reading import read_plan
from dao.learner.experiment.plans.settling import Given, designed
from dao.learner.kinds import Task
from dao.learner.pipeline.preflight import slices
from dao.learner.scoring.assessment import TableLike, plain_breakdown
from dao.learner.settings.config import Config
from dao.learner.storage.files import write_atomically
from dao.learner.storage.record import RunFolder

__all__ = ["conclude_plan", "plan_cells", "run_plan"]

ERROR = "error:"  # begins the line by which a run tells why it stopped, where that is no bug
Read = Callable[[Config], tuple[Config, TableLike, Mapping[str, Task]]]
"""The table of a run and its tasks, or the error for which the run would be refused."""


def run_plan(
    settings: Given, options: Options, command: Sequence[str], read: Read, *, dry_run: bool = False
) -> None:
    """Run what is missing of a planned experiment, then write findings and report.

    A run that stopped by itself while it trained, because a loss was no longer finite for example,
    is a result: the report says so, and it is not made again.

    Args:
        settings: that come before those of the plan; YAML file, overrides and flags.
        options: of the experiment, with the plan.
        command: what trains; it is given the arguments of train.py.
        read: the data of a run.
        dry_run: only show what would be done.

    Raises:
        UserError: the plan or a setting cannot be used; the folder holds another experiment; runs
            that failed without having trained.
        typer.Exit: stopped.
    """
    check_options(options)
    design = _designed(settings, options, read)
    cells = plan_cells(design, options.only)
    check_same_plan(design)
    for cell in cells:
        check_not_other(cell)
    lost = {cell.name: found for cell in cells if (found := _stopped(cell))}
    missing = [c for c in cells if not RunFolder(c.cfg.folder).finished and c.name not in lost]
    one_of_arms = {cell.arm: cell.cfg for cell in missing}
    _check_data(design, {arm: read(cfg) for arm, cfg in one_of_arms.items()})
    console = plain_console(stderr=not dry_run, soft_wrap=True)
    if dry_run:
        describe(cells, design.folder, {arm: design.told(arm) for arm in design.arms}, console)
        print_plan(cells[0].cfg, read(cells[0].cfg)[1])
        return
    keep(design, _again(design.folder, command))
    for cell in missing:
        stop_file(cell.cfg.folder).unlink(missing_ok=True)
    _write_plain(design, read)
    try:
        failed = work_off(cells, missing, design.folder, options, command, console, lost)
        failed = [outcome for outcome in failed if not _note_stop(outcome, cells, console)]
        report = None if options.only else partial(conclude_plan, design.folder)
        end(design.folder, failed, console, report)
    except KeyboardInterrupt:
        console.print("stopped; the same command again continues with what is missing")
        raise typer.Exit(130) from None


def conclude_plan(folder: Path) -> None:
    """From a planned experiment's folder alone to findings and report, written and printed.

    Raises:
        UserError: it keeps no plan or no finished run, or the runs are no fair comparison.
    """
    from dao.learner.experiment.plans.findings.findings import plan_findings
    from dao.learner.experiment.plans.report.report import print_plan_report, write_plan_report

    design = kept(folder)
    found = plan_findings(design)
    write_plan_report(design, found)
    print_plan_report(design, found)


def plan_cells(design: Design, only: Sequence[str] = ()) -> list[Cell]:
    """The runs, seed by seed, so that an experiment that is stopped early has whole seeds.

    Args:
        design: the experiment.
        only: names of cells, such as dao/3; empty: all.

    Raises:
        UserError: an unknown cell.
    """
    found = []
    for arm, seed in known_cells(list(design.arms), design.plan.seeds, only):
        place = str(design.folder / folder_name(arm) / f"seed={seed}")
        cfg = design.arms[arm].model_copy(update={"seed": seed, "output": place})
        found.append(Cell(arm, seed, cfg))
    return found


def _designed(settings: Given, options: Options, read: Read) -> Design:
    path = options.plan
    assert path is not None
    plan = read_plan(path)
    if options.seeds is not None:
        plan = plan.model_copy(update={"seeds": tuple(range(options.seeds))})
    return designed(plan, settings, partial(_folder, path, plan), lambda cfg: read(cfg)[0])


def _folder(path: Path, plan: ExperimentPlan, shared: Config) -> Path:
    """Where the experiment goes; a plan that an experiment keeps belongs to the folder around."""
    own = path.parent if plan.began else Path(f"results/{path.stem}-{shared.data_name}")
    return Path(shared.output) if shared.output else own


def _again(folder: Path, command: Sequence[str]) -> str:
    """The command that continues an experiment and writes its report anew."""
    place = folder.name if folder.is_absolute() else str(folder)
    program = "dao experiment" if "-m" in command else "python train.py --factorial"
    return f"{program} --plan {place}/plan.yaml"


# -- runs that stopped by themselves ---------------------------------------------------------------


def _stopped(cell: Cell) -> Outcome | None:
    """How a run of these settings stopped by itself while it trained; None if it did not."""
    note, run = stop_file(cell.cfg.folder), RunFolder(cell.cfg.folder)
    if not note.is_file() or run.finished or not run.started or any(other_settings(cell)):
        return None
    reason = note.read_text(encoding="utf-8").strip()
    return Outcome(cell.name, False, 0, reason, by_itself=True)


def _note_stop(outcome: Outcome, cells: Sequence[Cell], console: Console) -> bool:
    """Note the end of a run that stopped by itself while it trained; False of any other."""
    cfg = next(cell.cfg for cell in cells if cell.name == outcome.name)
    told = outcome.by_itself and outcome.reason.startswith(ERROR)
    if not told or not RunFolder(cfg.folder).started:
        return False
    note, reason = stop_file(cfg.folder), outcome.reason.removeprefix(ERROR).strip()
    note.write_text(f"{reason}\n", encoding="utf-8")
    line = f"{outcome.name} stopped: {reason} The report says so; without {note} it is made again."
    console.print(line, highlight=False)
    return True


# -- data ------------------------------------------------------------------------------------------


def _check_data(design: Design, read: Mapping[str, tuple[Config, TableLike, object]]) -> None:
    """Refuse arms whose test rows differ, and columns to break figures down by that are not there.

    Raises:
        UserError: naming the arms or the column.
    """
    first: dict[str, tuple[str, object]] = {}
    for arm, (cfg, table, tasks) in read.items():
        if design.plan.by:
            _check_by(design, cfg, table, tasks)
        for task in cfg.tasks if len(read) > 1 else ():
            rows = table.rows("test")
            rows = rows.loc[rows[task].notna(), ["id", "text", task]].reset_index(drop=True)
            other, same = first.setdefault(task, (arm, rows))
            if not rows.equals(same):
                raise UserError(
                    f"Arms should be tested on the same rows. Found other test rows of {task} in "
                    f"{arm!r} than in {other!r}. Give all arms the same settings under `data`."
                )


def _check_by(design: Design, cfg: Config, table: TableLike, tasks: Any) -> None:  # noqa: ANN401
    there = slices(cfg, table, tasks)
    for column in design.plan.by:
        if column not in there:
            raise UserError(
                f"`by` should name columns that figures are broken down by. Found {column!r}. "
                f"There are {listed(list(there)) or 'none'}; data.slices names others."
            )


def _write_plain(design: Design, read: Read) -> None:
    """Measure the plain models on the parts of the test rows, once for the whole experiment."""
    path = design.folder / PLAIN
    if not design.plan.by or path.is_file():
        return
    _, table, tasks = read(design.shared)
    found = plain_breakdown(table, tasks, design.plan.by)
    write_atomically(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
