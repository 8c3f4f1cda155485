"""Changes against single-task models, and their mean over tasks: delta-m."""

from __future__ import annotations

from collections.abc import Mapping

from dao.learner.basics.numbers import is_known
from dao.learner.experiment.findings.contrasts import PRIMARY, About, main_figures
from dao.learner.experiment.findings.verdicts import Figures

__all__ = ["DELTA_M", "DELTA_M_ABOUT", "changes_of_tasks", "delta_m"]

DELTA_M = "delta_m"
DELTA_M_ABOUT: About = {
    "task": None, "key": DELTA_M, "label": "\N{GREEK CAPITAL LETTER DELTA}m", "unit": "%",
    "better": "higher", "family": PRIMARY, "main": False, "of_class": "",
}  # fmt: skip


def changes_of_tasks(
    row: Figures, alone: Mapping[str, Figures], metrics: Mapping[str, About]
) -> dict[str, dict[int, float | None]]:
    """The relative change of each task's main figure against the task alone, by seed, in percent.

    With the figure M of the row and B of the task alone it is 100 s (M - B) / |B|, where s is 1 if
    higher is better and -1 if lower is: above 0, the row is better.

    Args:
        row: seed -> figures.
        alone: task -> the same of the model that has this task alone.
        metrics: the figures, as `contrasts.measured` has them.

    Returns:
        Task -> seed -> change, at the seeds that both have; None where a figure is none, or B is 0.

    Example:
        >>> about = {"task": "reg", "main": True, "better": "lower"}
        >>> one, two = {0: {"reg.mse": 0.3}}, {0: {"reg.mse": 0.2}}
        >>> round(changes_of_tasks(one, {"reg": two}, {"reg.mse": about})["reg"][0])
        -50
    """
    found: dict[str, dict[int, float | None]] = {}
    for task, metric in main_figures(metrics).items():
        sign = 1.0 if metrics[metric]["better"] == "higher" else -1.0
        for seed, base in alone.get(task, {}).items():
            if seed in row and metric in row[seed]:
                value, other = row[seed][metric], base.get(metric)
                known = is_known(value) and is_known(other) and other != 0
                change = 100 * sign * (value - other) / abs(other) if known else None  # type: ignore[operator,arg-type]
                found.setdefault(task, {})[seed] = change
    return found


def delta_m(
    changes: Mapping[str, Mapping[int, float | None]], tasks: int
) -> dict[int, float | None]:
    """The mean of the tasks' changes at each seed (Maninis et al., CVPR 2019, eq. 4).

    Args:
        changes: as `changes_of_tasks` gives them.
        tasks: of the experiment; a seed at which one of them has no change has no mean.

    Example:
        >>> delta_m({"a": {0: 2.0, 1: 1.0}, "b": {0: -6.0}}, 2)
        {0: -2.0}
    """
    seeds = dict.fromkeys(seed for by_seed in changes.values() for seed in by_seed)
    found: dict[int, float | None] = {}
    for seed in seeds:
        values = [by_seed[seed] for by_seed in changes.values() if seed in by_seed]
        if len(values) == tasks:
            known = [value for value in values if value is not None]
            found[seed] = sum(known) / tasks if len(known) == tasks else None
    return found
