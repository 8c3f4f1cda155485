"""`--tune`: a search by optuna from its texts to the run that is best on validation."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from dao.learner.basics.wording import count
from dao.learner.console.command import print_plan
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.grid.backends import stopping
from dao.learner.experiment.grid.factorial import Cell, check_not_other
from dao.learner.experiment.grid.job import RunJob, run_job
from dao.learner.experiment.grid.options import check_one_process
from dao.learner.experiment.grid.work import LOCKS, job_of, threads_of_each
from dao.learner.experiment.tuning.outcome import RunWithDAO, best_of, conclude
from dao.learner.experiment.tuning.space import Space, overrides_of, read_space, weights_in
from dao.learner.experiment.tuning.study import no_pruning, open_study
from dao.learner.experiment.tuning.trials import Budget, folder_of, label, told, work_off
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.claiming import locked

__all__ = ["TuningOptions", "run_tuning"]

TRIALS = 20
"""Of a search, where no number is given."""
Settings = tuple[Path | None, list[str], Mapping[str, Any]]
Read = Callable[[Config], tuple[Config, TableLike, object]]


@dataclass(frozen=True)
class TuningOptions:
    """The flags of a search.

    Attributes:
        tune: the texts of --tune.
        trials: of the study; None: `TRIALS`.
        minutes: after which no trial begins; None: no limit.
        jobs: runs at a time; None: one.
    """

    tune: Sequence[str]
    trials: int | None = None
    minutes: float | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class _Search:
    """What all trials of a search have in common."""

    settings: Settings
    shared: Config
    space: Space
    folder: Path
    read: Read

    def values(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401
        """What a trial tries: setting -> value."""
        return {key: dimension.propose(trial, key) for key, dimension in self.space.items()}

    def cell(self, trial: Any) -> Cell:  # noqa: ANN401
        """The run of a trial.

        Raises:
            UserError: it is refused, or its folder holds a run of other settings.
        """
        place = folder_of(self.folder, trial.number, self.shared.seed)
        cell = Cell(label(trial.number), self.shared.seed, self.config(self.values(trial), place))
        check_not_other(cell)
        return cell

    def beside(self, study: Any) -> RunWithDAO | None:  # noqa: ANN401
        """The run with DAO in place of the best trial's constant weights, its other values kept.

        None where no constant weights are tuned, or no trial has finished.
        """
        best, weights = best_of(study), weights_in(list(self.space))
        if best is None or not weights:
            return None
        own = {key: value for key, value in self.values(best).items() if key not in weights}
        name = f"dao-beside-{label(best.number)}" if own else "dao"
        place = self.folder / name / f"seed={self.shared.seed}"
        cfg = self.config({**own, "weighting": "dao"}, place)
        return RunWithDAO(Cell(name, self.shared.seed, cfg), tuple(own))

    def check(self) -> None:
        """Refuse what no trial could be, by each end of each range and each choice.

        Raises:
            UserError: naming the setting.
        """
        path, overrides, flags = self.settings
        self.read(self.shared)
        for key, dimension in self.space.items():
            for value in dimension.ends:
                load_config(path, overrides, {**flags, **overrides_of({key: value})})

    def config(self, values: Mapping[str, Any], place: Path) -> Config:
        """The settings of a run in `place` with these values.

        Raises:
            UserError: it is refused.
        """
        path, overrides, flags = self.settings
        own = {**flags, **overrides_of(values), "output": str(place)}
        return self.read(load_config(path, overrides, own))[0]


def run_tuning(
    settings: Settings,
    asked: TuningOptions,
    command: Sequence[str],
    read: Read,
    *,
    dry_run: bool = False,
) -> None:
    """Search, and name the run that is best on validation, with its test figures alone.

    Where constant loss weights are tuned, one run with DAO is trained beside them.

    Args:
        settings: that all runs have; YAML file, overrides and flags.
        asked: the flags of the search.
        command: what trains; it is given the arguments of `dao train`.
        read: the table of a run, or the error for which it would be refused.
        dry_run: only show what would be done.

    Raises:
        UserError: unusable settings or ranges; optuna is not installed; a folder with another
            search; no trial finished.
        typer.Exit: stopped.
    """
    check_one_process()
    shared = load_config(*settings)
    folder = Path(shared.output or f"results/search-{shared.data_name}")
    search = _Search(settings, shared, read_space(asked.tune, shared), folder, read)
    search.check()
    budget = Budget(asked.trials or TRIALS, asked.minutes)
    if dry_run:
        _show(search, budget)
        return
    with locked(folder):
        study = open_study(folder, search.space, shared)
        try:
            with closing(_work(search, study, budget, asked.jobs or 1, tuple(command))) as lines:
                for line in lines:
                    plain_console(stderr=True, soft_wrap=True).print(line, highlight=False)
        except KeyboardInterrupt:
            line = "stopped; the same command again continues the search"
            plain_console(stderr=True).print(line, highlight=False)
            raise typer.Exit(130) from None
        finally:
            shutil.rmtree(folder / LOCKS, ignore_errors=True)
        conclude(study, folder, shared, search.values, search.beside(study))


def _work(
    search: _Search,
    study: Any,  # noqa: ANN401
    budget: Budget,
    jobs: int,
    command: tuple[str, ...],
) -> Generator[str]:
    """Work off the trials and the run beside them; a line for each."""
    threads = threads_of_each(torch.get_num_threads() // jobs)

    def work(cell: Cell) -> RunJob:
        return job_of(cell, search.folder, command, threads)

    yield f"{search.folder}: {_budget(search, budget)}"
    with closing(work_off(study, search.shared.seed, budget, jobs, search.cell, work)) as ended:
        for trial in ended:
            yield told(trial, budget.trials, search.values(trial))
    beside = search.beside(study)
    if beside is not None:
        check_not_other(beside.cell)
        with stopping(threading.Event()):
            outcome = run_job(work(beside.cell))
        end = "done" if outcome.finished else f"failed: {outcome.reason}"
        yield f"{beside.cell.arm}: {end}"


def _show(search: _Search, budget: Budget) -> None:
    """What --dry-run prints."""
    console = plain_console(soft_wrap=True)
    for key, dimension in search.space.items():
        console.print(f"# tune {key}: {dimension}", highlight=False)
    console.print(f"# search: {search.folder}; {_budget(search, budget)}", highlight=False)
    if weights_in(list(search.space)):
        console.print("# beside it: one run with weighting=dao", highlight=False)
    table = search.read(search.shared)[1]
    print_plan(search.config({}, folder_of(search.folder, 0, search.shared.seed)), table)


def _budget(search: _Search, budget: Budget) -> str:
    """How far the search goes, and whether trials are stopped early, in words."""
    why = no_pruning(search.space, search.shared)
    minutes = "" if budget.minutes is None else f", none begun after {budget.minutes:g} minutes"
    early = f"none is stopped early: {why}" if why else "those below the median are stopped early"
    return f"{count(budget.trials, 'trial')}{minutes}; {early}"
