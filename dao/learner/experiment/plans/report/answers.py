"""What the numbers of a planned experiment allow to say, a sentence for each pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.basics.wording import count, listed
from dao.learner.experiment.findings.contrasts import PRIMARY
from dao.learner.experiment.findings.verdicts import NOT_TESTED
from dao.learner.experiment.report.first_lines import dendrite_lines, worse_arms
from dao.learner.experiment.report.tables import interval, number, p_value

__all__ = ["answers", "choices", "first_lines", "stops"]

FEW = 3
"""Rows worse than a plain model that have a sentence each."""


def answers(findings: Mapping[str, Any]) -> list[str]:
    """A sentence for every pair: the verdict on the primary figures, then on those of tasks."""
    names = dict.fromkeys(effect["name"] for effect in findings["effects"])
    lines = []
    for name in names:
        own = [effect for effect in findings["effects"] if effect["name"] == name]
        first = [_told(effect, findings) for effect in own if effect["family"] == PRIMARY]
        rest = [effect for effect in own if effect["family"] != PRIMARY]
        lines.append(f"{name}: {'; '.join([*first, *_of_tasks(rest, findings)])}.")
    return lines


def _told(effect: Mapping[str, Any], findings: Mapping[str, Any]) -> str:
    label = findings["metrics"][effect["metric"]]["label"]
    found = f"{label} {effect['verdict']}, {number(effect['mean'], signed=True)}"
    if effect["verdict"] == NOT_TESTED:
        return found
    between = interval(effect["t95"], signed=True)
    return f"{found} (95 % t interval {between}, Holm p {p_value(effect['p_holm'])})"


def _of_tasks(effects: list[Mapping[str, Any]], findings: Mapping[str, Any]) -> list[str]:
    tested = [effect for effect in effects if effect["verdict"] != NOT_TESTED]
    if not tested:
        return []
    found = [_told(effect, findings) for effect in tested if effect["significant"]]
    rest = len(tested) - len(found)
    of = f"no significant difference in {'the ' if found else ''}{count(rest, 'figure')} of tasks"
    return [*found, *([of] if rest else [])]


def choices(findings: Mapping[str, Any]) -> list[str]:
    """What was chosen on validation, from what, and what the choice cost."""
    lines = []
    for name, about in findings["choices"].items():
        scores = ", ".join(f"{arm} {number(score)}" for arm, score in about["scores"].items())
        out = about["left_out"]
        without = f" Without all their runs: {', '.join(out)}." if out else ""
        lines.append(
            f"{name} is {about['chosen']}, which has the best mean validation score ({scores}). "
            f"The choice took {count(about['runs'], 'run')} of {about['seconds']:,.0f} s "
            f"altogether.{without}"
        )
    return lines


def stops(findings: Mapping[str, Any]) -> list[str]:
    """Every run that stopped by itself, and why."""
    return [
        f"{arm}, seed {seed}, stopped: {why}"
        for arm, seeds in findings["stopped"].items()
        for seed, why in seeds.items()
    ]


def first_lines(findings: Mapping[str, Any]) -> list[str]:
    """Rows that a plain model beats, and what dendrites contribute."""
    arms = {row: a for row, a in findings["arms"].items() if row not in findings["choices"]}
    worse = worse_arms({**findings, "arms": arms})
    if len(worse) > FEW:
        names = [line.partition(" is worse")[0] for line in worse]
        worse = [
            f"{len(worse)} of {len(arms)} rows are worse than a plain model in some "
            f"figure: {listed(names, most=8)}."
        ]
    return [*worse, *dendrite_lines({**findings, "arms": arms})]
