"""Trials of a search as runs: begun, watched on validation, stopped early, told to the study."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.basics.numbers import number
from dao.learner.experiment.grid.backends import stopping
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.experiment.grid.job import Outcome, RunJob, run_job
from dao.learner.experiment.grid.search import kept_score
from dao.learner.experiment.tuning.study import begun, next_trial
from dao.learner.storage.record import RunFolder
from dao.learner.storage.writing import OwnedRecord

__all__ = [
    "REASON",
    "SECONDS",
    "Budget",
    "folder_of",
    "label",
    "told",
    "training_seconds",
    "work_off",
]

GLANCE = 0.2  # seconds between two looks at the validations of the runs at work
SECONDS, REASON = "seconds", "reason"
"""What the study keeps of a trial beside its values and its score."""


@dataclass(frozen=True)
class Budget:
    """When no further trial begins; those at work go on to their end.

    Attributes:
        trials: of the study, those of earlier commands included.
        minutes: since the command began; None: no limit.
        began: by `time.monotonic`.
    """

    trials: int
    minutes: float | None = None
    began: float = field(default_factory=time.monotonic)

    def lasts(self, trials: int) -> bool:
        """Whether another trial may begin after so many."""
        minutes = (time.monotonic() - self.began) / 60
        return trials < self.trials and (self.minutes is None or minutes < self.minutes)


@dataclass
class _AtWork:
    trial: Any
    cell: Cell
    stop: threading.Event
    future: Future[Outcome]
    seen: int = 0
    pruned: bool = False

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """The validations so far; a row that is being written is left for the next look."""
        try:
            text = (self.cell.cfg.folder / "validation.jsonl").read_text(encoding="utf-8")
        except OSError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1:] == "\n"]


def label(trial: int) -> str:
    """The folder of a trial inside that of the search.

    Example:
        >>> label(7)
        'trial-0007'
    """
    return f"trial-{trial:04d}"


def work_off(
    study: Any,  # noqa: ANN401
    seed: int,
    budget: Budget,
    workers: int,
    cell_of: Callable[[Any], Cell],
    job_of: Callable[[Cell], RunJob],
) -> Generator[Any]:
    """Continue the trials that were begun, begin others, and yield each as it has ended.

    Only this thread speaks to the study; the others wait for processes.

    Args:
        study: of optuna.
        seed: of the proposals.
        budget: when no further trial begins.
        workers: runs at a time.
        cell_of: trial -> its run; a trial whose settings are refused has failed.
        job_of: run -> the work for a thread.

    Raises:
        KeyboardInterrupt: told to stop (Ctrl-C, or SIGTERM); no process is left behind, and the
            trials at work are continued by the next command.
    """
    waiting = begun(study)
    at_work: list[_AtWork] = []
    with ThreadPoolExecutor(workers) as pool, stopping(threading.Event()):
        try:
            while True:
                while len(at_work) < workers and (trial := _next(study, seed, budget, waiting)):
                    one = _begin(study, trial, cell_of, job_of, pool)
                    if isinstance(one, _AtWork):
                        at_work.append(one)
                    else:
                        yield one
                if not at_work:
                    return
                wait([one.future for one in at_work], GLANCE, FIRST_COMPLETED)
                for one in at_work:
                    _look(one)
                for one in [one for one in at_work if one.future.done()]:
                    at_work.remove(one)
                    yield _end(study, one)
        finally:
            for one in at_work:
                one.stop.set()


def _next(study: Any, seed: int, budget: Budget, waiting: list[Any]) -> Any:  # noqa: ANN401
    """The next trial; None where there is none, or no time for it."""
    if waiting:
        return waiting.pop(0)
    if not budget.lasts(len(study.get_trials(deepcopy=False))):
        return None
    return next_trial(study, seed)


def _begin(
    study: Any,  # noqa: ANN401
    trial: Any,  # noqa: ANN401
    cell_of: Callable[[Any], Cell],
    job_of: Callable[[Cell], RunJob],
    pool: ThreadPoolExecutor,
) -> Any:  # noqa: ANN401
    """The run of a trial at work; the ended trial where it is refused, or was made before."""
    try:
        cell = cell_of(trial)
    except UserError as error:
        return _tell(study, trial, 0.0, state="FAIL", reason=str(error))
    for other in _finished(study):
        if other.params == trial.params:  # equal settings are an equal run
            return _tell(study, trial, 0.0, other.value, reason=f"as {label(other.number)}")
    stop = threading.Event()
    future = pool.submit(run_job, job_of(cell), stop)
    known = study.get_trials(deepcopy=False)[trial.number].intermediate_values
    return _AtWork(trial, cell, stop, future, seen=len(known))


def _look(one: _AtWork) -> None:
    """Report the validations since the last look, and stop the run where the study says so."""
    rows = one.rows
    if len(rows) < one.seen:  # a run that was killed has gone back to its checkpoint
        return
    for number_, row in enumerate(rows[one.seen :], start=one.seen + 1):
        if one.pruned:
            return
        one.seen = number_
        one.trial.report(row["score"], number_)
        if one.trial.should_prune():
            one.pruned = True
            one.stop.set()


def _end(study: Any, one: _AtWork) -> Any:  # noqa: ANN401
    """Tell the study how a run ended; a run that was stopped as it finished has finished."""
    outcome, folder = one.future.result(), OwnedRecord(one.cell.cfg.folder)
    spent = training_seconds(folder)
    if outcome.finished:
        return _tell(study, one.trial, spent, kept_score(one.cell))
    if one.pruned:
        folder.remove_checkpoints()  # nobody goes on with it
        reason = f"after validation {one.seen}, at {number(one.rows[one.seen - 1]['score'])}"
        return _tell(study, one.trial, spent, state="PRUNED", reason=reason)
    return _tell(study, one.trial, spent, state="FAIL", reason=outcome.reason)


def training_seconds(folder: RunFolder) -> float:
    """Seconds that a run has trained: to its end, else to its last checkpoint, of each validation.

    So what starts a process, which is the same for long and for short trials, does not count.
    """
    if folder.finished:
        return float(folder.read("metrics.json", "training")["training"]["seconds"])
    if not folder.has_checkpoint:
        return 0.0
    return float(RunFolder(folder.latest_checkpoint()).read("state.json", "seconds")["seconds"])


def _tell(
    study: Any,  # noqa: ANN401
    trial: Any,  # noqa: ANN401
    seconds: float,
    score: float | None = None,
    *,
    state: str = "COMPLETE",
    reason: str = "",
) -> Any:  # noqa: ANN401
    from optuna.trial import TrialState

    trial.set_user_attr(SECONDS, round(seconds, 1))
    trial.set_user_attr(REASON, reason)
    return study.tell(trial, score, TrialState[state])


def _finished(study: Any) -> Sequence[Any]:  # noqa: ANN401
    from optuna.trial import TrialState

    found: Sequence[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found


def told(trial: Any, of: int, values: Mapping[str, Any]) -> str:  # noqa: ANN401
    """A trial that has ended, in one line.

    Args:
        trial: a frozen trial of optuna.
        of: trials of the budget.
        values: what it tried.
    """
    reason = trial.user_attrs[REASON]
    end = {"COMPLETE": "score", "PRUNED": "stopped early", "FAIL": "failed"}[trial.state.name]
    if trial.state.name == "COMPLETE":
        end = f"{end} {number(trial.value)}{f', {reason}' if reason else ''}"
    else:
        end = f"{end}: {reason}"
    shown = " ".join(f"{key}={value}" for key, value in values.items())
    return f"{trial.number + 1}/{of} {label(trial.number)} {shown}: {end}"


def folder_of(folder: Path, trial: int, seed: int) -> Path:
    """The run folder of a trial.

    Args:
        folder: of the search.
        trial: its number.
        seed: of the run.
    """
    return folder / label(trial) / f"seed={seed}"
