"""An experiment's folder to its findings: what DAO and dendrites bought, alone and together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.learner.experiment.arms import chosen, known_arms
from dao.learner.experiment.findings.arm_figures import (
    all_tasks,
    arm_content,
    described,
    of_arm,
    positives,
    references,
    varying,
)
from dao.learner.experiment.findings.comparable import check_comparable
from dao.learner.experiment.findings.contrasts import Contrast, contrasts, measured
from dao.learner.experiment.findings.latency import latencies
from dao.learner.experiment.findings.relative import changes
from dao.learner.experiment.findings.runs import Run, experiment, kept_without
from dao.learner.experiment.findings.verdicts import METHOD, METHOD_CHECK, over_rows, over_seeds
from dao.learner.storage.files import write_atomically

__all__ = ["findings", "write_findings"]

FILE = "findings.json"


def findings(folder: Path, design: Sequence[str] | None = None) -> dict[str, Any]:
    """Check, measure and test an experiment; its findings, also written to FOLDER/findings.json.

    Only finished runs count, each contrast uses the seeds that all its arms have, and one whose
    arms are not there is left out; `notes` says all of this.

    Args:
        folder: holds ARM/seed=N, each the folder of a run; `arms.KNOWN` are known.
        design: arms that should be there, by default those of an experiment on these tasks; others
            that are there take part as well.

    Returns:
        JSON-able: name; design; tasks; folder_arms; seeds (of any arm); missing (arm and seed of
        runs that are not finished); metrics, as `contrasts.measured`; baselines and best_reachable
        on the test split; arms (see `arm_figures.arm_content`); effects, as `verdicts.over_seeds`;
        relative, as `relative.changes`; per_example, as `verdicts.over_rows`; method and notes,
        lines for a reader.

    Raises:
        UserError: there is no finished run, or the runs are no controlled experiment.
    """
    arms, unfinished = experiment(folder)
    runs = [run for found in arms.values() for run in found]
    check_comparable(runs)
    seeds = sorted({run.seed for run in runs}.union(*unfinished.values()))
    tasks = all_tasks(arms)
    metrics = measured(tasks)
    figures = {
        arm: {run.seed: run.figures(of_arm(found, tasks, metrics)) for run in found}
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
        **references(runs, metrics),
        "arms": {
            arm: arm_content(found, of_arm(found, tasks, metrics))
            | ({"latency_ms": latency[arm]} if arm in latency else {})
            for arm, found in arms.items()
            if found
        },
        "effects": over_seeds(asked, figures, metrics),
        "relative": changes(asked, figures, metrics),
        "per_example": over_rows(_pairs(asked, arms)) if not kept_without(runs) else [],
        "method": [*METHOD, *([METHOD_CHECK] if any(c.check for c in asked) else [])],
    }
    report["notes"] = _notes(report, runs, asked)
    write_findings(folder, report)
    return report


def write_findings(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the findings of an experiment into its folder."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / FILE, text + "\n")


def _of_one_seed(arms: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """The first seed that all arms have; none, if there is no such seed."""
    by_arm = {arm: {run.seed: run for run in found} for arm, found in arms.items() if found}
    common = set.intersection(*map(set, by_arm.values()))
    return {arm: runs[min(common)] for arm, runs in by_arm.items()} if common else {}


def _missing(arms: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    finished = {arm: {run.seed for run in runs} for arm, runs in arms.items()}
    return [{"arm": a, "seed": s} for a, found in finished.items() for s in seeds if s not in found]


def _pairs(
    asked: Sequence[Contrast], arms: Mapping[str, Sequence[Run]]
) -> list[tuple[list[Run], list[Run]]]:
    pairs = []
    for contrast in (c for c in asked if len(c.weights) == 2 and not c.check):
        both = [{run.seed: run for run in arms.get(arm, ())} for arm in contrast.weights]
        if common := sorted(both[0].keys() & both[1].keys()):
            pairs.append(([both[0][s] for s in common], [both[1][s] for s in common]))
    return pairs


def _notes(report: Mapping[str, Any], runs: Sequence[Run], asked: Sequence[Contrast]) -> list[str]:
    lost: dict[str, list[str]] = {}
    for run in report["missing"]:
        lost.setdefault(run["arm"], []).append(str(run["seed"]))
    lines = [f"{arm}: no finished run of seed {', '.join(seeds)}" for arm, seeds in lost.items()]
    lines += positives(report["metrics"], runs)
    done = {test["name"] for test in report["effects"]}
    if without := [contrast.name for contrast in asked if contrast.name not in done]:
        lines.append(f"not tested, for want of an arm or of a common seed: {'; '.join(without)}")
    lines += described(report["metrics"])
    few = sorted({test["name"] for test in report["effects"] if test["n"] < 2})
    if few:
        lines.append(f"fewer than two seeds in common, so no interval: {'; '.join(few)}")
    return lines + kept_without(runs) + varying(runs)
