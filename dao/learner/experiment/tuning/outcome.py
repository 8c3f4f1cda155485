"""What a search found: the table of its trials, the best one, and DAO beside tuned weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.basics.numbers import aligned, number
from dao.learner.basics.tables import titled
from dao.learner.basics.wording import count
from dao.learner.console.command import print_results, show_tables
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.experiment.grid.search import kept_score
from dao.learner.experiment.tuning.trials import REASON, SECONDS, folder_of, label
from dao.learner.kinds.recorded import recorded_tasks, selection
from dao.learner.settings.config import Config
from dao.learner.storage.files import write_atomically
from dao.learner.storage.record import RunFolder

__all__ = ["RunWithDAO", "best_of", "conclude"]

FILE = "search.json"
MOST = 20  # trials in the table
STATES = {"COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed"}
Values = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class RunWithDAO:
    """The run with DAO beside tuned constant weights.

    Attributes:
        cell: the run.
        shares: the settings that it has of the best trial.
    """

    cell: Cell
    shares: tuple[str, ...]


def best_of(study: Any) -> Any:  # noqa: ANN401
    """The finished trial of the highest score, of equal ones the first; None without any."""
    finished = [trial for trial in _ended(study) if trial.state.name == "COMPLETE"]
    return max(finished, key=lambda trial: (trial.value, -trial.number), default=None)


def conclude(
    study: Any,  # noqa: ANN401
    folder: Path,
    shared: Config,
    values: Values,
    beside: RunWithDAO | None,
) -> None:
    """Write search.json; print the trials, the best one with its test figures, and what it cost.

    Args:
        study: of optuna.
        folder: of the search.
        shared: the settings that all runs have.
        values: trial -> what it tried.
        beside: the run with DAO, where constant weights were tuned.

    Raises:
        UserError: no trial has finished.
    """
    best, trials = best_of(study), _ended(study)
    if best is None:
        reasons = [trial.user_attrs[REASON] for trial in trials if trial.state.name == "FAIL"]
        why = f", the last for this: {reasons[-1]}" if reasons else ""
        raise UserError(
            f"A search should have a trial that finishes. Found {count(len(trials), 'trial')} "
            f"without one{why}"
        )
    run = folder_of(folder, best.number, shared.seed)
    metrics = RunFolder(run).read("metrics.json")
    comparison = None if beside is None else _comparison(trials, best, metrics, shared, beside)
    content = {
        "selected": str(run),
        "selected_by": "validation score",
        "tuned": study.user_attrs["tuned"],
        "trials": [_row(trial, values) for trial in trials],
        "beside_dao": comparison,
    }
    write_atomically(folder / FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    lines = [_totals(trials), _best_line(best, values)]
    lines += [] if comparison is None else _comparison_lines(comparison)
    show_tables(content, [_table(trials, values)], lines, "terminal")
    print_results(metrics, run)


def _ended(study: Any) -> list[Any]:  # noqa: ANN401
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def _row(trial: Any, values: Values) -> dict[str, Any]:  # noqa: ANN401
    about = {"state": STATES[trial.state.name], "score": trial.value}
    kept = {key: trial.user_attrs[key] for key in (SECONDS, REASON)}
    return {"trial": label(trial.number), **about, **kept, "values": dict(values(trial))}


def _table(trials: Sequence[Any], values: Values) -> Any:  # noqa: ANN401
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    ranked = sorted(finished, key=lambda trial: (-trial.value, trial.number))[:MOST]
    keys = list(values(ranked[0]))
    title = "validation" if len(finished) <= MOST else f"validation, best {MOST}"
    table = titled(title, ["trial", *keys, "score ↑", "seconds"], words=("trial",))
    scores = aligned([float(trial.value) for trial in ranked])
    for trial, score in zip(ranked, scores, strict=True):
        tried = map(str, values(trial).values())
        spent = f"{trial.user_attrs[SECONDS]:.0f}"
        table.add_row(label(trial.number), *tried, score, spent)
    return table


def _totals(trials: Sequence[Any]) -> str:
    states = [trial.state.name for trial in trials]
    each = ", ".join(f"{states.count(s)} {word}" for s, word in STATES.items() if s in states)
    return f"{count(len(trials), 'trial')}: {each}; {_seconds(trials):.0f} s of training in all"


def _seconds(trials: Sequence[Any]) -> float:
    return sum(float(trial.user_attrs[SECONDS]) for trial in trials)


def _best_line(best: Any, values: Values) -> str:  # noqa: ANN401
    shown = ", ".join(f"{key}={value}" for key, value in values(best).items())
    return f"best on validation: {label(best.number)} ({shown}); test figures are shown of it alone"


def _comparison(
    trials: Sequence[Any],
    best: Any,  # noqa: ANN401
    metrics: Mapping[str, Any],
    shared: Config,
    beside: RunWithDAO,
) -> dict[str, Any] | None:
    """Scores and seconds of the tuned weights and of DAO; None where that run did not finish."""
    folder = RunFolder(beside.cell.cfg.folder)
    if not folder.finished:
        return None
    of_dao = folder.read("metrics.json")
    return {
        "run": str(folder.path),
        "shares": list(beside.shares),
        "constant": {
            "validation": best.value,
            "test": _test_score(metrics, shared),
            "trials": len(trials),
            "seconds": round(_seconds(trials), 1),
        },
        "dao": {
            "validation": kept_score(beside.cell),
            "test": _test_score(of_dao, shared),
            "trials": 1,
            "seconds": of_dao["training"]["seconds"],
        },
    }


def _test_score(metrics: Mapping[str, Any], shared: Config) -> float | None:
    tasks = recorded_tasks(metrics, shared.tasks)
    return selection(tasks, metrics["splits"]["test"], shared.train.select_weights)


def _comparison_lines(found: Mapping[str, Any]) -> list[str]:
    tuned, dao = found["constant"], found["dao"]
    shares = f", with the best trial's {', '.join(found['shares'])}" if found["shares"] else ""
    return [
        f"tuned constant weights: score on validation {number(tuned['validation'])}, on test "
        f"{_known(tuned['test'])}; {count(tuned['trials'], 'trial')}, {tuned['seconds']:.0f} s of "
        f"training",
        f"weighting=dao beside them{shares}: on validation {number(dao['validation'])}, on test "
        f"{_known(dao['test'])}; 1 run, {dao['seconds']:.0f} s of training ({found['run']})",
        "both are of one seed, and the first is the best of several on validation: compare them on "
        "test, and over several seeds",
    ]


def _known(score: float | None) -> str:
    return "none" if score is None else number(score)
