"""Any two runs, or two folders of runs, beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dao.errors import UserError
from dao.learner.experiment.arms import PLACES
from dao.learner.experiment.findings.comparable import (
    check_same_settings,
    check_same_test,
    differing,
)
from dao.learner.experiment.findings.contrasts import (
    SELECTION,
    About,
    Contrast,
    measured,
    with_class,
)
from dao.learner.experiment.findings.runs import Run, read_arm, read_run
from dao.learner.experiment.findings.verdicts import METHOD, METHOD_ROWS, over_rows, over_seeds
from dao.learner.kinds import KINDS

__all__ = ["compare"]

ONE_RUN = (
    "one run each: whether these two models differ on further rows of this kind, not whether "
    "their settings do; that takes several seeds of both"
)
COURSE: dict[str, Callable[[Run], Any]] = {
    "optimizer steps": lambda run: run.metrics["training"]["steps"],
    "restarts": lambda run: len(run.metrics["training"].get("restarted_after_steps", [])),
    "validations": lambda run: len(run.validations),
    "precision": lambda run: run.metrics["provenance"].get("precision"),
}


class _Side(NamedTuple):
    path: Path
    runs: list[Run]
    several: bool
    unfinished: list[int]


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Two runs, or two folders with runs in `seed=N`, on the test rows they share.

    Folders are paired by seed; two single runs are compared over test rows alone. Settings may
    differ, and the result lists in what; within one folder they may not.

    Args:
        a: a run folder, or a folder of runs.
        b: another of the same sort.

    Returns:
        JSON-able: a and b (path, arm, seeds, test figures per seed and their mean); settings that
        differ, with both values; metrics; effects, as `verdicts.over_seeds` has them, of the one
        contrast a - b, and per_example, as `verdicts.over_rows`; method and notes.

    Raises:
        UserError: they are not of one sort, share no task or no seed, or their test rows differ.
    """
    left, right = _side(a), _side(b)
    if left.several != right.several:
        raise UserError(
            f"Both sides should be runs, or both folders of runs. Found one of each: {a} and {b}. "
            f"Give two of a sort."
        )
    shared = [t for t in left.runs[0].config.tasks if t in right.runs[0].config.tasks]
    if not shared:
        raise UserError(f"Runs that are compared should share a task. Found none in {a} and {b}.")
    check_same_test([*left.runs, *right.runs])
    first, second = _matched(left, right)
    # Labels that differ, also for two folders of one name.
    names = ("A", "B")
    contrast = Contrast("A - B", "A - B", {"A": 1.0, "B": -1.0})
    metrics = _shared(first[0], second[0], shared)
    figures = {
        name: {run.seed: run.figures(metrics) for run in runs}
        for name, runs in zip(names, (first, second), strict=True)
    }
    effects = over_seeds([contrast], figures, metrics) if left.several else []
    labels = _of_rows(first[0], shared)
    rows = [
        {**test, "a": "A", "b": "B", "label": labels[test["metric"]]}
        for test in over_rows([(first, second)])
    ]
    seed = ["seed"] if left.several else []
    return {
        "a": _described(left, metrics),
        "b": _described(right, metrics),
        "settings": differing(first[0], second[0], [*PLACES, *seed]),
        "metrics": metrics,
        "effects": effects,
        "per_example": rows,
        "method": METHOD if left.several else [METHOD_ROWS],
        "notes": [
            *_notes(left, right, first, second),
            *_positives(first[0], second[0], shared),
            *_other_rows(first[0], second[0], shared),
        ],
    }


def _side(path: Path) -> _Side:
    if (path / "config.yaml").is_file():
        return _Side(path, [read_run(path)], several=False, unfinished=[])
    runs, unfinished = read_arm(path)
    if not runs:
        raise UserError(
            f"A folder to compare should be a finished run, or hold some as seed=N. Found neither "
            f"in {path}. Give the folder of a run, or the one above it."
        )
    check_same_settings(runs)
    return _Side(path, runs, several=True, unfinished=unfinished)


def _matched(left: _Side, right: _Side) -> tuple[list[Run], list[Run]]:
    if not left.several:
        return left.runs, right.runs
    common = {run.seed for run in left.runs} & {run.seed for run in right.runs}
    if not common:
        raise UserError(
            f"Folders that are compared should share a seed. Found none in {left.path} and "
            f"{right.path}. Train both with the same --seed, or compare two single runs."
        )
    first, second = ([r for r in side.runs if r.seed in common] for side in (left, right))
    return first, second


def _described(side: _Side, metrics: Iterable[str]) -> dict[str, Any]:
    values = {m: {str(run.seed): run.figure(m) for run in side.runs} for m in metrics}
    known = {m: [v for v in found.values() if v is not None] for m, found in values.items()}
    return {
        "path": str(side.path),
        "arm": side.runs[0].config.arm,
        "seeds": [run.seed for run in side.runs],
        "values": values,
        "mean": {m: sum(found) / len(found) if found else None for m, found in known.items()},
    }


def _shared(a: Run, b: Run, tasks: Sequence[str]) -> dict[str, About]:
    """The figures that both runs show.

    Those of one class are left out where the runs mean different classes, and the score over all
    tasks where the runs make it of other tasks, figures, classes or weights.
    """
    metrics = measured({task: a.tasks[task] for task in tasks})
    of_b = measured({task: b.tasks[task] for task in tasks})
    apart = [task for task in tasks if a.positive(task) != b.positive(task)]
    whole = _scored(a) == _scored(b)
    return {
        metric: about
        for metric, about in metrics.items()
        if metric in of_b
        and not (about["task"] in apart and about["of_class"])
        and (whole or metric != SELECTION)
    }


def _scored(run: Run) -> dict[str, tuple[str, str | None, float]]:
    """The parts of the selection score: figure, its class, and weight of every task."""
    weights = run.config.train.select_weights
    return {
        name: (
            task.selects_by,
            run.positive(name) if task.selected_by_class else None,
            weights.get(name, 1.0),
        )
        for name, task in run.tasks.items()
    }


def _of_rows(run: Run, tasks: Sequence[str]) -> dict[str, str]:
    """What a reader sees of the means over rows, also where no table shows them."""
    found = {}
    for name in tasks:
        task = run.tasks[name]
        figure = next(f for f in KINDS[task.kind].own_figures if f.key == task.row_figure)
        found[f"{name}.{figure.key}"] = f"{name} {figure.label} {figure.arrow}"
    return found


def _positives(a: Run, b: Run, tasks: Sequence[str]) -> list[str]:
    """The class of each task for which both runs show figures of one class."""
    shown = [with_class(measured({t: run.tasks[t] for t in tasks})) for run in (a, b)]
    lines = []
    for task in tasks:
        one, other = a.positive(task), b.positive(task)
        if all(task in own for own in shown):
            apart = f" in A, {other!r} in B: left out"
            lines.append(f"F1 of {task} is that of {one!r}" + ("" if one == other else apart))
    return lines


def _other_rows(a: Run, b: Run, tasks: Sequence[str]) -> list[str]:
    pairs = {task: (a.tasks[task].row_figure, b.tasks[task].row_figure) for task in tasks}
    return [
        f"rows of {task} are not compared: they are scored by {one} in A, by {other} in B"
        for task, (one, other) in pairs.items()
        if one != other
    ]


def _notes(left: _Side, right: _Side, first: Sequence[Run], second: Sequence[Run]) -> list[str]:
    lines = [] if left.several else [ONE_RUN]
    used = {run.seed for run in first}
    for letter, side in (("A", left), ("B", right)):
        if spare := [str(run.seed) for run in side.runs if side.several and run.seed not in used]:
            lines.append(f"{letter}: seed {', '.join(spare)} left out, which the other has not")
        if side.unfinished:
            lines.append(f"{letter}: seed {', '.join(map(str, side.unfinished))} is not finished")
    if left.several and len(used) < 2:
        lines.append("one seed in common, so no interval over seeds")
    for what, of in COURSE.items():
        a, b = of(first[0]), of(second[0])
        if a != b:
            lines.append(f"{what} differ: {a} in A, {b} in B")
    return lines
