"""What an arm reached and cost, and the plain models beside it, as findings have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from dao.learner.basics.wording import listed
from dao.learner.dendrites.share import shares_of_sets
from dao.learner.experiment.findings.contrasts import SELECTION, About, only_tested, with_class
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.findings.statistics import t_interval
from dao.learner.kinds.recorded import Recorded

__all__ = [
    "all_tasks",
    "arm_content",
    "described",
    "of_arm",
    "positives",
    "references",
    "varying",
]

VARYING: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "versions of packages": lambda made: made.get("packages"),
    "devices": lambda made: made.get("device"),
    "numbers of threads": lambda made: made.get("threads"),
    "revisions of the code": lambda made: (made.get("git") or {}).get("commit"),
}
"""What may differ between runs, though it can change their figures a little."""


def of_arm(runs: Sequence[Run], tasks: Collection[str], metrics: Mapping[str, About]) -> list[str]:
    """The figures of an arm; without all tasks it has no score over them."""
    whole = bool(runs) and runs[0].tasks.keys() == set(tasks)
    return [metric for metric in metrics if whole or metric != SELECTION]


def arm_content(runs: Sequence[Run], metrics: Sequence[str]) -> dict[str, Any]:
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


def references(runs: Sequence[Run], metrics: Mapping[str, About]) -> dict[str, Any]:
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


def all_tasks(arms: Mapping[str, Sequence[Run]]) -> dict[str, Recorded]:
    """The tasks by name, as the arm with the most tasks recorded them, then as others did."""
    found: dict[str, Recorded] = {}
    for runs in sorted((r for r in arms.values() if r), key=lambda runs: -len(runs[0].tasks)):
        found |= {name: task for name, task in runs[0].tasks.items() if name not in found}
    return found


def positives(metrics: Mapping[str, About], runs: Sequence[Run]) -> list[str]:
    """The class that a figure is about, where it is about one class."""
    of_one = with_class(metrics)
    found = {(task, run.positive(task)) for run in runs for task in of_one if task in run.tasks}
    by_class: dict[str | None, list[str]] = {}
    for task, name in sorted(found, key=str):
        by_class.setdefault(name, []).append(task)
    return [
        f"F1 of {listed(tasks, most=6)} is that of {name!r}" for name, tasks in by_class.items()
    ]


def described(metrics: Mapping[str, About]) -> list[str]:
    """A line with the figures that are measured and not tested; none where all are tested."""
    apart = metrics.keys() - only_tested(metrics)
    labels = [about["label"] for metric, about in metrics.items() if metric in apart]
    return [f"described and not tested: {listed(labels, most=6)}"] if labels else []


def varying(runs: Iterable[Run]) -> list[str]:
    """A line for everything that may differ between runs and does."""
    made = [run.metrics["provenance"] for run in runs]
    return [
        f"the runs were made with different {name}"
        for name, recorded in VARYING.items()
        if len({json.dumps(recorded(one)) for one in made}) > 1
    ]
