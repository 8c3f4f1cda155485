"""The first screen of a report: one sentence, one picture, and where plain models are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dao.learner.basics.limits import IN_A_LINE, LISTED
from dao.learner.basics.wording import count, listed
from dao.learner.experiment.arms import label
from dao.learner.experiment.findings.contrasts import CHECK, SELECTION, main_figures
from dao.learner.experiment.findings.verdicts import NO_DIFFERENCE, NOT_TESTED
from dao.learner.experiment.report.tables import interval, mains, number, primary
from dao.learner.scoring.plain_models import best_plain, better_ones

__all__ = ["answer", "outcome", "unbeaten"]

WHAT = {
    "DAO": "DAO, which balances the losses of the tasks",
    "dendrites": "dendrites, units that grow during training",
}
LEFT_OUT = ("interaction",)
"""Main effects that a first sentence does without."""
FOUND = "found"
CORRECTED = "corrected"
"""In place of a verdict: the interval leaves 0 out, and Holm's correction finds no difference."""
TOLD = 3
"""Differences up to which a sentence tells each."""


class Worse(NamedTuple):
    """Arms that do not beat a plain model in the main figure of a task."""

    task: str
    about: Mapping[str, Any]
    plain: str
    figure: float
    arms: Mapping[str, float]


def answer(findings: Mapping[str, Any]) -> str:
    """What a built-in experiment asked and what it found, in one sentence for a stranger."""
    parts = [WHAT[name] for name in WHAT if any(name.lower() in a for a in findings["design"])]
    asked = f"which of the arms {listed(findings['design'], LISTED)} is best"
    if parts:
        verb = "makes" if parts == [WHAT["DAO"]] else "make"
        asked = f"whether {', and '.join(parts)}, {verb} a model of {_tasks(findings)} better"
    return f"This experiment asked {asked}; {outcome(findings, _first(findings))}."


def _tasks(findings: Mapping[str, Any]) -> str:
    names = findings["tasks"]
    if len(names) > IN_A_LINE:
        return count(len(names), "task")
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _first(findings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The differences that answer the question: main effects, else those of pairs of arms."""
    metrics = primary(findings) or mains(findings)[:1]
    effects = [
        effect
        for effect in findings["effects"]
        if effect["metric"] in metrics and effect.get("family") != CHECK
    ]
    whole = [e for e in effects if e["name"] in WHAT]
    return whole or [e for e in effects if e["name"] not in LEFT_OUT]


def outcome(findings: Mapping[str, Any], effects: Sequence[Mapping[str, Any]]) -> str:
    """The part of a sentence that tells differences between arms, with their intervals.

    More than `TOLD` are counted, and the largest that is significant is told.
    """
    known = [effect for effect in effects if effect.get("mean") is not None]
    if not known:
        seeds = count(len(findings["seeds"]), "seed")
        return f"with {seeds}, no difference between arms could be measured"
    least, most = min(e["n"] for e in known), max(e["n"] for e in known)
    seeds = f"over {least} to {most} seeds" if least < most else f"over {count(most, 'seed')}"
    if len(known) > TOLD:
        return f"{seeds}, {_counted(known, findings)}"
    told = [_change(effect, findings) for effect in known]
    kinds = {_kind(effect) for effect in known}
    if len(kinds) == 1:
        told[1:] = [
            change.replace(f" changed {_what(known[0], findings)}", "") for change in told[1:]
        ]
        return f"{seeds}, {_joined(told)}{_ending(kinds.pop(), len(known))}"
    each = [f"{c}{_ending(_kind(e), 1)}" for c, e in zip(told, known, strict=True)]
    return f"{seeds}, {'; '.join(each)}"


def _joined(told: Sequence[str]) -> str:
    return f"{', '.join(told[:-1])} and {told[-1]}" if told[1:] else told[0]


def _kind(effect: Mapping[str, Any]) -> str:
    verdict = effect["verdict"]
    if verdict == NO_DIFFERENCE and _apart_from_zero(effect):
        return CORRECTED
    return verdict if verdict in (NO_DIFFERENCE, NOT_TESTED) else FOUND


def _apart_from_zero(effect: Mapping[str, Any]) -> bool:
    low, high = effect.get("t95") or (None, None)
    return low is not None and high is not None and (low > 0 or high < 0)


def _ending(kind: str, of: int) -> str:
    if kind == NOT_TESTED:
        return ", which too few seeds can tell from chance"
    if kind == CORRECTED:
        return ", which chance may explain once all tests are counted"
    if kind == NO_DIFFERENCE:
        return ", which chance may explain" if of == 1 else ", and chance may explain each of them"
    return ", which is more than chance explains" if of == 1 else ", each more than chance explains"


def _change(effect: Mapping[str, Any], findings: Mapping[str, Any]) -> str:
    what = _what(effect, findings)
    between = interval(effect.get("t95"), signed=True)
    known = effect.get("t95") and None not in effect["t95"]
    inside = f" (95 % interval {between})" if known else ""
    by = f"{number(effect['mean'], signed=True)}{inside}"
    if " - " in effect["name"]:
        a, _, b = effect["name"].partition(" - ")
        return f"{a} differs from {b} in {what} by {by}"
    return f"{effect['name']} changed {what} by {by}"


def _what(effect: Mapping[str, Any], findings: Mapping[str, Any]) -> str:
    about = findings["metrics"][effect["metric"]]
    return "the mean score of the tasks" if about["key"] == SELECTION else str(about["label"])


def _counted(effects: Sequence[Mapping[str, Any]], findings: Mapping[str, Any]) -> str:
    found = [effect for effect in effects if _kind(effect) == FOUND]
    largest = max(found or effects, key=lambda effect: abs(effect["mean"]))
    many = f"{len(found) or 'none'} {'are' if found[1:] else 'is'}"
    return (
        f"{many} more than chance explains of {len(effects)} differences that were tested; the "
        f"largest{' of them' if found[1:] else ''}: {_change(largest, findings)}"
    )


def unbeaten(findings: Mapping[str, Any]) -> list[str]:
    """A sentence for each task whose best plain model no arm beats, or only some arms beat.

    The main figure of the task is compared, as mean over seeds. Of many tasks, those where no arm
    is better are counted.
    """
    none: list[Worse] = []
    some: list[Worse] = []
    for task, metric in main_figures(findings["metrics"]).items():
        about = findings["metrics"][metric]
        found = {
            arm: content["mean"][metric]
            for arm, content in findings["arms"].items()
            if content.get("mean", {}).get(metric) is not None
        }
        best = _best_plain(findings, metric)
        if best is None or not found:
            continue
        name, plain = best
        above = better_ones(plain, found, about["better"])
        below = {arm: value for arm, value in found.items() if arm not in above}
        if below:
            (some if above else none).append(Worse(task, about, name, plain, below))
    lines = [_told(each, findings) for each in none]
    lines += [_told(each, findings, some=True) for each in some]
    if len(lines) <= IN_A_LINE:
        return lines
    tasks = [each.task for each in (*none, *some)]
    return [
        f"On {len(tasks)} of {len(findings['tasks'])} tasks, some arm did not beat the best plain "
        f"model: {listed(tasks, LISTED)}."
    ]


def _best_plain(findings: Mapping[str, Any], metric: str) -> tuple[str, float] | None:
    arrow = "\N{UPWARDS ARROW}"
    if findings["metrics"][metric]["better"] != "higher":
        arrow = "\N{DOWNWARDS ARROW}"
    return best_plain(findings.get("baselines", {}), metric, arrow)


def _told(worse: Worse, findings: Mapping[str, Any], *, some: bool = False) -> str:
    task, about, plain, figure, below = worse
    pick = max if about["better"] == "higher" else min
    arm = pick(below, key=lambda name: below[name])
    names = [label(name, findings["tasks"]) for name in below]
    who = f"{listed(names, IN_A_LINE)} did not beat" if some or len(names) == 1 else "no arm beat"
    best = f"{number(below[arm])} of {label(arm, findings['tasks'])}"
    best = f"{best}, the best of them" if len(names) > 1 else best
    both = f"{about['label']} {number(figure)} against {best}"
    return f"On {task}, {who} {plain}, a plain model: {both}."
