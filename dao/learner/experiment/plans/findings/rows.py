"""The rows of a plan's tables: arms, arms routed the other way, and arms that were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from dao.errors import UserError
from dao.learner.experiment.findings.runs import Run, read_run
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.kept import stop_file
from dao.learner.experiment.plans.plan import folder_name
from dao.learner.storage.record import RunFolder

__all__ = ["Rows", "choice", "read_rows", "rerouted"]


@dataclass(frozen=True)
class Rows:
    """What there is of a planned experiment.

    Attributes:
        arms: arm -> its finished runs, by seed.
        rows: row of the tables -> its runs; only rows that have one.
        stopped: arm -> seed -> why the run stopped by itself.
        missing: arm -> seeds whose run was not made, or not brought to its end.
        choices: name of a chosen row -> how it was chosen, as `choice` has it.
    """

    arms: Mapping[str, list[Run]]
    rows: Mapping[str, list[Run]]
    stopped: Mapping[str, Mapping[int, str]]
    missing: Mapping[str, list[int]]
    choices: Mapping[str, Mapping[str, Any]]


def read_rows(design: Design) -> Rows:
    """The runs of an experiment, from its folder.

    Raises:
        UserError: there is no finished run, or a run is of another seed than its folder.
    """
    arms: dict[str, list[Run]] = {}
    stopped: dict[str, dict[int, str]] = {}
    missing: dict[str, list[int]] = {}
    for arm in design.arms:
        arms[arm] = []
        for seed in design.plan.seeds:
            folder = design.folder / folder_name(arm) / f"seed={seed}"
            note = stop_file(folder)
            if RunFolder(folder).finished:
                arms[arm].append(_run(folder, arm, seed))
            elif note.is_file():
                stopped.setdefault(arm, {})[seed] = note.read_text(encoding="utf-8").strip()
            else:
                missing.setdefault(arm, []).append(seed)
    if not any(arms.values()):
        raise UserError(
            f"An experiment should have finished runs. Found none of its arms in {design.folder}. "
            f"Give the command that makes them."
        )
    rows = {
        **arms,
        **{row: [rerouted(run, row) for run in arms[of]] for row, of in design.routed.items()},
    }
    choices = {}
    for name, among in design.plan.choose.items():
        found = choice({arm: arms[arm] for arm in among}, design.plan.seeds)
        if found is not None:
            choices[name] = found
            rows[name] = [replace(run, arm=name) for run in arms[found["chosen"]]]
    ordered = {row: rows[row] for row in design.rows if rows.get(row)}
    return Rows(arms, ordered, stopped, missing, choices)


def _run(folder: Any, arm: str, seed: int) -> Run:  # noqa: ANN401
    run = read_run(folder, arm)
    if run.seed != seed:
        raise UserError(
            f"`seed` should be that of the folder's name. Found {run.seed} in {folder}. Train that "
            f"run again."
        )
    return run


def rerouted(run: Run, row: str) -> Run:
    """A run with a router as it answers when its text is routed the other way.

    Args:
        run: whose experts were mixed (soft), or of which the heaviest acted alone (hard).
        row: name of the row that it stands for.
    """
    other = "hard" if run.config.experts.routing == "soft" else "soft"
    found = run.metrics["routing"]["test"][other]
    metrics = {
        **run.metrics,
        "splits": {**run.metrics["splits"], "test": found["all"]},
        "slices": {**run.metrics["slices"], "test": {"domain": found["domains"]}},
    }
    return replace(run, arm=row, metrics=metrics)


def choice(among: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> dict[str, Any] | None:
    """The arm with the best mean validation score, and what choosing cost.

    Args:
        among: arm -> its finished runs.
        seeds: that an arm needs all of, to be a candidate.

    Returns:
        `chosen`; mean validation `scores` of the candidates; `left_out`, arms that lack a run;
        `runs` and `seconds` of all the arms. None where no arm is a candidate.
    """
    scores, left_out = {}, []
    for arm, runs in among.items():
        found = [run.validation_score for run in runs]
        known = [score for score in found if score is not None]
        if len(known) == len(seeds):
            scores[arm] = fmean(known)
        else:
            left_out.append(arm)
    if not scores:
        return None
    every = [run for runs in among.values() for run in runs]
    return {
        "chosen": max(scores, key=lambda arm: scores[arm]),
        "scores": scores,
        "left_out": left_out,
        "runs": len(every),
        "seconds": sum(run.metrics["training"]["seconds"] for run in every),
    }
