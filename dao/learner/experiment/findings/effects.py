"""An experiment's folder to its findings: what DAO and dendrites bought, alone and together."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dao.learner.basics.wording import listed
from dao.learner.dendrites.share import shares_of_sets
from dao.learner.experiment.arms import chosen, known_arms
from dao.learner.experiment.findings.comparable import check_comparable
from dao.learner.experiment.findings.contrasts import (
    SELECTION,
    About,
    Contrast,
    contrasts,
    measured,
    only_tested,
    with_class,
)
from dao.learner.experiment.findings.latency import latencies
from dao.learner.experiment.findings.relative import changes
from dao.learner.experiment.findings.runs import Run, experiment
from dao.learner.experiment.findings.statistics import t_interval
from dao.learner.experiment.findings.verdicts import METHOD, METHOD_CHECK, over_rows, over_seeds
from dao.learner.kinds.recorded import Recorded
from dao.learner.storage.files import write_atomically

__all__ = ["findings"]

FILE = "findings.json"
VARYING: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "versions of packages": lambda made: made.get("packages"),
    "devices": lambda made: made.get("device"),
    "numbers of threads": lambda made: made.get("threads"),
    "revisions of the code": lambda made: (made.get("git") or {}).get("commit"),
}
"""What may differ between runs, though it can change their figures a little."""


def findings(folder: Path, design: Sequence[str] | None = None) -> dict[str, Any]:
    """Check, measure and test an experiment; its findings, also written to FOLDER/findings.json.

    Only finished runs count, each contrast uses the seeds that all its arms have, and one whose
    arms are not there is left out; `notes` says all of this.

    Args:
        folder: holds ARM/seed=N, each a run folder of train.py; `arms.KNOWN` are known.
        design: arms that should be there, by default those of an experiment on these tasks; others
            that are there take part as well.

    Returns:
        JSON-able: name; design; tasks; folder_arms; seeds (of any arm); missing (arm and seed of
        runs that are not finished); metrics, as `contrasts.measured`; baselines and best_reachable
        on the test split; arms (see `_arm`); effects, as `verdicts.over_seeds`; relative, as
        `relative.changes`; per_example, as `verdicts.over_rows`; method and notes, lines for a
        reader.

    Raises:
        UserError: there is no finished run, or the runs are no controlled experiment.
    """
    arms, unfinished = experiment(folder)
    runs = [run for found in arms.values() for run in found]
    check_comparable(runs)
    seeds = sorted({run.seed for run in runs}.union(*unfinished.values()))
    tasks = _tasks(arms)
    metrics = measured(tasks)
    figures = {
        arm: {run.seed: run.figures(_of_arm(found, tasks, metrics)) for run in found}
        for arm, found in arms.items()
    }
    latency = latencies(_of_one_seed(arms))
    lr = runs[0].config.dendrites.lr  # which all runs that are compared share
    design = chosen(list(tasks), lr=lr) if design is None else design
    asked = contrasts({*design, *arms}, list(tasks))
    report = {
        "name": runs[0].metrics["name"],
        "design": [arm for arm in known_arms(list(tasks), lr) if arm in design or arm in arms],
        "tasks": list(tasks),
        "views": {name: task.view for name, task in tasks.items()},
        "folder_arms": list(arms),
        "seeds": seeds,
        "missing": _missing(arms, seeds),
        "metrics": metrics,
        **_references(runs, metrics),
        "arms": {
            arm: _arm(found, _of_arm(found, tasks, metrics))
            | ({"latency_ms": latency[arm]} if arm in latency else {})
            for arm, found in arms.items()
            if found
        },
        "effects": over_seeds(asked, figures, metrics),
        "relative": changes(asked, figures, metrics),
        "per_example": over_rows(_pairs(asked, arms)),
        "method": [*METHOD, *([METHOD_CHECK] if any(c.check for c in asked) else [])],
    }
    report["notes"] = _notes(report, runs, asked)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / FILE, text + "\n")
    return report


def _of_one_seed(arms: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """The first seed that all arms have; none, if there is no such seed."""
    by_arm = {arm: {run.seed: run for run in found} for arm, found in arms.items() if found}
    common = set.intersection(*map(set, by_arm.values()))
    return {arm: runs[min(common)] for arm, runs in by_arm.items()} if common else {}


def _missing(arms: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    finished = {arm: {run.seed for run in runs} for arm, runs in arms.items()}
    return [{"arm": a, "seed": s} for a, found in finished.items() for s in seeds if s not in found]


def _of_arm(runs: Sequence[Run], tasks: Collection[str], metrics: Mapping[str, About]) -> list[str]:
    """The figures of an arm; without all tasks it has no score over them."""
    whole = bool(runs) and runs[0].tasks.keys() == set(tasks)
    return [metric for metric in metrics if whole or metric != SELECTION]


def _arm(runs: Sequence[Run], metrics: Sequence[str]) -> dict[str, Any]:
    """Figures per seed with mean and t interval, and what the arm cost.

    `parameters` is how many trained at most, dendrites included (those of sham never train);
    `seconds` the training took; `validations` each run had, and `steps` and restarts the first.
    `latency_ms` is of the first seed that all arms have, as `latency.latencies` has it.
    `output_shares_of_sets` takes the layers of all seeds together.
    """
    values = {m: {str(run.seed): run.figure(m) for run in runs} for m in metrics}
    values = {m: by_seed for m, by_seed in values.items() if set(by_seed.values()) != {None}}
    known = {m: [v for v in by_seed.values() if v is not None] for m, by_seed in values.items()}
    intervals = {m: t_interval(found) for m, found in known.items()}
    grown = {str(run.seed): run.metrics["dendrites"] for run in runs if run.metrics["dendrites"]}
    trained = [run.metrics["training"] for run in runs]
    return {
        "values": values,
        "mean": {m: sum(found) / len(found) for m, found in known.items()},
        "t95": {m: None if pair is None else list(pair) for m, pair in intervals.items()},
        "parameters": max(_parameters(run) for run in runs),
        "seconds": {str(run.seed): run.metrics["training"]["seconds"] for run in runs},
        "steps": trained[0]["steps"],
        "validations": len(runs[0].validations),
        "restarted_after_steps": trained[0].get("restarted_after_steps", []),
        "thrown_away_steps": {
            str(run.seed): thrown
            for run in runs
            if (thrown := run.metrics["training"].get("thrown_away_steps")) is not None
        },
        "selected_after_step": {
            str(run.seed): run.metrics["training"]["selected_after_step"] for run in runs
        },
        "dendrites_kept": {seed: report["dendrites_kept"] for seed, report in grown.items()},
        "dendrites_lr": runs[0].config.dendrites.lr,
        "output_shares_of_sets": shares_of_sets(
            report.get("output_shares") or {} for report in grown.values()
        ),
    }


def _parameters(run: Run) -> int:
    trainable: int = run.metrics["parameters"]["trainable"]
    dendrites = run.metrics["dendrites"]
    trained = dendrites and run.config.dendrites.control == "none"
    return trainable + (dendrites["parameters_added"] if trained else 0)


def _pairs(
    asked: Sequence[Contrast], arms: Mapping[str, Sequence[Run]]
) -> list[tuple[list[Run], list[Run]]]:
    pairs = []
    for contrast in (c for c in asked if len(c.weights) == 2 and not c.check):
        both = [{run.seed: run for run in arms.get(arm, ())} for arm in contrast.weights]
        if common := sorted(both[0].keys() & both[1].keys()):
            pairs.append(([both[0][s] for s in common], [both[1][s] for s in common]))
    return pairs


def _references(runs: Sequence[Run], metrics: Mapping[str, About]) -> dict[str, Any]:
    """Test figures of the plain models, mean over runs, and the best reachable.

    Of runs on the same data they are equal, unless an earlier revision gave the plain model of a
    binary task the threshold of the run.
    """
    plain: dict[str, dict[str, list[float]]] = {}
    best: dict[str, float] = {}
    for run in runs:
        found = run.metrics["baselines"].get("test", {})
        reachable = run.metrics["best_reachable"].get("test", {})
        for metric, about in metrics.items():
            task, key = about["task"], about["key"]
            for label, figures in found.get(task, {}).items():
                if figures.get(key) is not None:
                    plain.setdefault(label, {}).setdefault(metric, []).append(figures[key])
            if reachable.get(task, {}).get(key) is not None:
                best[metric] = reachable[task][key]
    # Exact, so that the mean of equal figures is that figure.
    means = {label: {m: mean(v) for m, v in own.items()} for label, own in plain.items()}
    return {"baselines": means, "best_reachable": best}


def _tasks(arms: Mapping[str, Sequence[Run]]) -> dict[str, Recorded]:
    """The tasks by name, as the arm with the most tasks recorded them, then as others did."""
    found: dict[str, Recorded] = {}
    for runs in sorted((r for r in arms.values() if r), key=lambda runs: -len(runs[0].tasks)):
        found |= {name: task for name, task in runs[0].tasks.items() if name not in found}
    return found


def _positives(metrics: Mapping[str, About], runs: Sequence[Run]) -> list[str]:
    """The class that a figure is about, where it is about one class."""
    of_one = with_class(metrics)
    found = {(task, run.positive(task)) for run in runs for task in of_one if task in run.tasks}
    by_class: dict[str | None, list[str]] = {}
    for task, name in sorted(found, key=str):
        by_class.setdefault(name, []).append(task)
    return [
        f"F1 of {listed(tasks, most=6)} is that of {name!r}" for name, tasks in by_class.items()
    ]


def _notes(report: Mapping[str, Any], runs: Sequence[Run], asked: Sequence[Contrast]) -> list[str]:
    lost: dict[str, list[str]] = {}
    for run in report["missing"]:
        lost.setdefault(run["arm"], []).append(str(run["seed"]))
    lines = [f"{arm}: no finished run of seed {', '.join(seeds)}" for arm, seeds in lost.items()]
    lines += _positives(report["metrics"], runs)
    done = {test["name"] for test in report["effects"]}
    if without := [contrast.name for contrast in asked if contrast.name not in done]:
        lines.append(f"not tested, for want of an arm or of a common seed: {'; '.join(without)}")
    apart = report["metrics"].keys() - only_tested(report["metrics"])
    if described := [about["label"] for m, about in report["metrics"].items() if m in apart]:
        lines.append(f"described and not tested: {listed(described, most=6)}")
    few = sorted({test["name"] for test in report["effects"] if test["n"] < 2})
    if few:
        lines.append(f"fewer than two seeds in common, so no interval: {'; '.join(few)}")
    for name, recorded in VARYING.items():
        found = {json.dumps(recorded(run.metrics["provenance"])) for run in runs}
        if len(found) > 1:
            lines.append(f"the runs were made with different {name}")
    return lines
