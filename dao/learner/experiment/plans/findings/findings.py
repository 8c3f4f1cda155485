"""The folder of a planned experiment to its findings: what each row reached, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from dao.learner.experiment.findings.arm_figures import (
    all_tasks,
    arm_content,
    described,
    of_arm,
    positives,
    references,
    varying,
)
from dao.learner.experiment.findings.comparable import check_planned
from dao.learner.experiment.findings.contrasts import (
    SELECTION,
    About,
    Contrast,
    main_figures,
    measured,
    only_tested,
)
from dao.learner.experiment.findings.effects import write_findings
from dao.learner.experiment.findings.runs import Run, kept_without
from dao.learner.experiment.findings.verdicts import METHOD_PLAN, Figures, over_seeds
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.findings.breakdowns import breakdown_by, plain_parts, routing
from dao.learner.experiment.plans.findings.delta_m import (
    DELTA_M,
    DELTA_M_ABOUT,
    changes_of_tasks,
    delta_m,
)
from dao.learner.experiment.plans.findings.ranks import mean_ranks
from dao.learner.experiment.plans.findings.rows import Rows, read_rows
from dao.learner.experiment.plans.findings.spread import differences, spread
from dao.learner.experiment.plans.kept import PLAIN
from dao.learner.kinds.recorded import Recorded

__all__ = ["plan_findings"]

FEW = 2
"""Tasks up to which parts of the test rows are told in every tested figure."""
REST = "Other arms"


def plan_findings(design: Design) -> dict[str, Any]:
    """Check, measure and test a planned experiment; the findings, also in FOLDER/findings.json.

    Models are selected on validation, and every figure is of the test split.

    Args:
        design: the experiment, as `kept.kept` reads it from its folder.

    Returns:
        JSON-able: title, question, tasks, seeds, metrics (as `contrasts.measured`, with delta_m),
        baselines and best_reachable, `arms` (see `_row`; every row of the tables), `groups` (see
        `_group`), `effects` of the pairs (as `verdicts.over_seeds`), `choices`, `alone` (task ->
        row), `by` (as `breakdowns.breakdown_by`, with `plain`), `routing`, `stopped` and `missing`
        (arm -> seeds), method and notes, lines for a reader.

    Raises:
        UserError: there is no finished run, or runs differ in more than the plan says.
    """
    rows = read_rows(design)
    runs = list(chain.from_iterable(rows.arms.values()))
    check_planned(runs, design.own)
    tasks = all_tasks(rows.arms)
    metrics = _metrics(design, tasks, runs)
    figures, changes = _figures(design, rows, tasks, metrics)
    if any(DELTA_M in found for by_seed in figures.values() for found in by_seed.values()):
        first = {m: about for m, about in metrics.items() if m == SELECTION}
        metrics = {**first, DELTA_M: DELTA_M_ABOUT, **metrics}
    asked = [_contrast(pair) for pair in design.plan.compare]
    found = {
        "title": design.plan.title,
        "question": design.plan.question,
        "name": runs[0].metrics["name"],
        "tasks": list(tasks),
        "seeds": list(design.plan.seeds),
        "metrics": metrics,
        **references(runs, metrics),
        "arms": {
            row: _row(found, of_arm(found, tasks, metrics), figures[row], changes[row])
            for row, found in rows.rows.items()
        },
        "groups": [_group(part, figures, rows, design, metrics) for part in _groups(design, rows)],
        "effects": over_seeds(asked, figures, metrics),
        "choices": rows.choices,
        "alone": design.alone,
        "by": _by(design, rows, metrics),
        "routing": {
            arm: found for arm, own in rows.arms.items() if (found := routing(own)) is not None
        },
        "stopped": {
            arm: {str(s): why for s, why in own.items()} for arm, own in rows.stopped.items()
        },
        "missing": rows.missing,
        "method": METHOD_PLAN,
    }
    found["notes"] = _notes(design, found, runs, asked)
    write_findings(design.folder, found)
    return found


def _metrics(
    design: Design, tasks: Mapping[str, Recorded], runs: Sequence[Run]
) -> dict[str, About]:
    """The figures; without the selection score where arms are not selected by the same."""
    found = measured(tasks)
    if not _one_score(design, runs):
        found.pop(SELECTION)
    return found


def _one_score(design: Design, runs: Sequence[Run]) -> bool:
    whole = [run for run in runs if list(run.config.tasks) == list(design.shared.tasks)]
    scores = {
        repr(([(n, t.selects_by) for n, t in run.tasks.items()], run.config.train.select_weights))
        for run in whole
    }
    return len(scores) < 2


def _figures(
    design: Design,
    rows: Rows,
    tasks: Mapping[str, Recorded],
    metrics: Mapping[str, About],
) -> tuple[dict[str, dict[int, dict[str, float | None]]], dict[str, Any]]:
    """Row -> seed -> figures, with delta-m; and row -> task -> seed -> change against it alone."""
    figures = {
        row: {run.seed: run.figures(of_arm(runs, tasks, metrics)) for run in runs}
        for row, runs in rows.rows.items()
    }
    alone = {task: figures[row] for task, row in design.alone.items() if row in figures}
    changes = {}
    for row in figures:
        whole = len(tasks) > 1 and set(design.tasks_of(row)) == set(tasks)
        changes[row] = changes_of_tasks(figures[row], alone, metrics) if whole else {}
        for seed, value in delta_m(changes[row], len(tasks)).items():
            figures[row][seed][DELTA_M] = value
    return figures, changes


def _contrast(pair: tuple[str, str]) -> Contrast:
    a, b = pair
    return Contrast(f"{a} - {b}", f"{a} - {b}", {a: 1.0, b: -1.0})


def _row(
    runs: Sequence[Run],
    metrics: Sequence[str],
    figures: Figures,
    changes: Mapping[str, Mapping[int, float | None]],
) -> dict[str, Any]:
    """What `arm_content` says, with delta-m among the figures, and more.

    That is `changes` (task -> change against it alone in percent), `steps_of_runs` (fewest, most),
    the learning rate `lr`, and the score on `validation`.
    """
    found = arm_content(runs, [metric for metric in metrics if metric != DELTA_M])
    of_delta = {seed: own[DELTA_M] for seed, own in figures.items() if DELTA_M in own}
    if of_delta:
        about = spread(of_delta)
        found["values"][DELTA_M] = {str(seed): value for seed, value in of_delta.items()}
        if about["mean"] is not None:
            found["mean"][DELTA_M], found["t95"][DELTA_M] = about["mean"], about["t95"]
    steps = sorted({run.metrics["training"]["steps"] for run in runs})
    return found | {
        "changes": {task: spread(by_seed) for task, by_seed in changes.items()},
        "steps_of_runs": [steps[0], steps[-1]],
        "lr": runs[0].config.train.lr,
        "validation": spread({run.seed: run.validation_score for run in runs}),
    }


def _groups(design: Design, rows: Rows) -> list[tuple[str, list[str], str]]:
    """Title, rows and reference of each table; a row may have no run that came to its end."""
    plan = design.plan
    there = [r for r in design.rows if r in rows.rows or design.routed.get(r, r) in rows.stopped]
    if not plan.groups:
        return [("", there, plan.reference)]
    parts = [
        (title, [row for row in group.arms if row in there], group.reference)
        for title, group in plan.groups.items()
    ]
    named = {row for group in plan.groups.values() for row in group.arms}
    rest = [row for row in there if row not in named]
    return [*parts, *([(REST, rest, "")] if rest else [])]


def _group(
    part: tuple[str, list[str], str],
    figures: Mapping[str, Figures],
    rows: Rows,
    design: Design,
    metrics: Mapping[str, About],
) -> dict[str, Any]:
    """A table: title, rows, `reference`, each row's `differences` from it, and mean `ranks`.

    Rows that have all tasks are ranked.
    """
    title, names, reference = part
    whole = [row for row in names if set(design.tasks_of(row)) == set(design.shared.tasks)]
    stopped = {row: rows.stopped.get(design.routed.get(row, row), {}) for row in whole}
    apart = {}
    for row in names if reference in figures else ():
        if row != reference and row in figures:
            apart[row] = _apart(figures[row], figures[reference], metrics)
    return {
        "title": title,
        "rows": names,
        "reference": reference,
        "differences": apart,
        "ranks": mean_ranks({row: figures.get(row, {}) for row in whole}, stopped, metrics),
    }


def _apart(a: Figures, b: Figures, metrics: Mapping[str, About]) -> dict[str, Any]:
    """The differences that a table shows: in the primary figures and the main one of each task."""
    first = [metric for metric in (SELECTION, DELTA_M) if metric in metrics]
    shown = [*first, *main_figures(metrics).values()]
    found = {metric: spread(differences(_of(a, metric), _of(b, metric))) for metric in shown}
    return {metric: about for metric, about in found.items() if about["values"]}


def _of(figures: Figures, metric: str) -> dict[int, float | None]:
    return {seed: own[metric] for seed, own in figures.items() if metric in own}


def _by(design: Design, rows: Rows, metrics: Mapping[str, About]) -> list[dict[str, Any]]:
    of_tasks = {m: about for m, about in metrics.items() if about["task"] is not None}
    few = len(design.shared.tasks) <= FEW
    names = list(only_tested(of_tasks)) if few else list(main_figures(metrics).values())
    shown = {metric: metrics[metric] for metric in names}
    return [
        breakdown_by(column, rows.rows, design.plan.compare, shown)
        | {"metrics": names, "plain": plain_parts(design.folder / PLAIN, column, shown)}
        for column in design.plan.by
    ]


def _notes(
    design: Design, found: Mapping[str, Any], runs: Sequence[Run], asked: Sequence[Contrast]
) -> list[str]:
    lines = [
        f"{arm}: no finished run of seed {', '.join(map(str, seeds))}"
        for arm, seeds in found["missing"].items()
    ]
    lines += positives(found["metrics"], runs)
    done = {test["name"] for test in found["effects"]}
    if without := [contrast.name for contrast in asked if contrast.name not in done]:
        lines.append(f"not tested, for want of a row or of a common seed: {'; '.join(without)}")
    if absent := [name for name in design.plan.choose if name not in found["choices"]]:
        lines.append(f"nothing was chosen, as no arm has all runs: {', '.join(absent)}")
    if SELECTION not in found["metrics"]:
        lines.append("the arms are selected by different scores, so no selection score is compared")
    lines += described(found["metrics"]) + _without_alone(design)
    few = sorted({test["name"] for test in found["effects"] if test["n"] < 2})
    if few:
        lines.append(f"fewer than two seeds in common, so no interval: {'; '.join(few)}")
    lines += kept_without(runs)
    began = design.plan.began
    if began and set(began.seeds) != set(design.plan.seeds):
        added = [str(seed) for seed in design.plan.seeds if seed not in began.seeds]
        lines.append(f"seeds that were added after the experiment began: {', '.join(added)}")
    return lines + varying(runs)


def _without_alone(design: Design) -> list[str]:
    """A line that says why there is no delta-m, where some task has a model of its own."""
    tasks = list(design.shared.tasks)
    lacking = [task for task in tasks if task not in design.alone]
    several = any(len(cfg.tasks) == 1 for cfg in design.arms.values())
    if len(tasks) < 2 or not lacking or not several:
        return []
    return [
        f"no \N{GREEK CAPITAL LETTER DELTA}m, which takes one arm for each task alone: found none "
        f"or several of {', '.join(lacking)}; `alone` in a plan says which counts"
    ]
