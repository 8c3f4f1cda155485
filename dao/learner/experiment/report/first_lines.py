"""The first lines of a report: arms that plain models beat, and what dendrites contribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.basics.limits import FIGURES_TOLD
from dao.learner.dendrites.share import contribution
from dao.learner.experiment.arms import label
from dao.learner.experiment.findings.contrasts import only_tested
from dao.learner.experiment.report.tables import number
from dao.learner.scoring.plain_models import better_ones

__all__ = ["dendrite_lines", "worse_arms"]


def worse_arms(findings: Mapping[str, Any]) -> list[str]:
    """A sentence for each arm whose mean over seeds is worse than a plain model's figure.

    A sentence tells the figures that are tested. If they are more than `FIGURES_TOLD`, main figures
    come first, and the sentence counts the rest.
    """
    lines = []
    metrics = list(only_tested(findings["metrics"]).items())
    if len(metrics) > FIGURES_TOLD:
        metrics.sort(key=lambda pair: not pair[1]["main"])
    for arm, content in findings["arms"].items():
        told = []
        for metric, about in metrics:
            value = content.get("mean", {}).get(metric)
            plain = {
                name: figures[metric]
                for name, figures in findings.get("baselines", {}).items()
                if figures.get(metric) is not None
            }
            beaten = {} if value is None else better_ones(value, plain, about["better"])
            if beaten:
                by = ", ".join(f"{name} {number(figure)}" for name, figure in beaten.items())
                told.append(f"{about['label']} {number(value)} ({by})")
        if len(told) > FIGURES_TOLD:
            told[FIGURES_TOLD:] = [f"and {len(told) - FIGURES_TOLD} more of {len(metrics)} figures"]
        if told:
            name = label(arm, findings["tasks"])
            lines.append(f"{name} is worse than a plain model: {'; '.join(told)}.")
    return lines


def dendrite_lines(findings: Mapping[str, Any]) -> list[str]:
    """How much dendrites contribute in each arm that has them, with a warning if it is little."""
    return [
        f"{line}."
        for arm, content in findings["arms"].items()
        if content.get("output_shares_of_sets")
        for line in contribution(
            content["output_shares_of_sets"], content.get("dendrites_lr", 1.0), arm
        )
    ]
