"""Says plainly where a model is worse than a model that anybody has for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.basics.limits import FIGURES_TOLD
from dao.learner.basics.numbers import number
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.recorded import headlines, part_name

__all__ = ["best_plain", "better_ones", "not_beaten", "worse_than_plain"]


def better_ones(value: float, plain: Mapping[str, float], better: str) -> dict[str, float]:
    """The plain models that beat a figure.

    Args:
        value: of the model.
        plain: name to figure.
        better: `higher` or `lower`, the direction in which the figure improves.

    Example:
        >>> better_ones(0.4, {"majority class": 0.5, "TF-IDF": 0.3}, "higher")
        {'majority class': 0.5}
        >>> better_ones(0.4, {"mean predictor": 0.5, "TF-IDF": 0.3}, "lower")
        {'TF-IDF': 0.3}
    """
    sign = 1.0 if better == "higher" else -1.0
    return {name: figure for name, figure in plain.items() if sign * (figure - value) > 0}


def best_plain(
    rows: Mapping[str, Mapping[str, Any]], metric: str, arrow: str
) -> tuple[str, float] | None:
    """The plain model that is best in a figure, and its figure; None where none has it.

    Args:
        rows: Name of a plain model to its figures.
        metric: Key of the figure.
        arrow: The direction in which the figure improves, ↑ or ↓.

    Example:
        >>> best_plain({"majority": {"mse": 0.5}, "TF-IDF": {"mse": 0.3}}, "mse", "↓")
        ('TF-IDF', 0.3)
    """
    sign = 1.0 if arrow == "↑" else -1.0
    known = {name: row[metric] for name, row in rows.items() if row.get(metric) is not None}
    return max(known.items(), key=lambda pair: sign * pair[1], default=None)


def not_beaten(task: str, figure: Figure, value: float | None, best: tuple[str, float]) -> str:
    """A line where the best plain model is as good as the model, or better; else nothing.

    Args:
        task: its name.
        figure: which is compared.
        value: of the model; None where it is not defined, of which nothing is said.
        best: the plain model that is best in it, as of `best_plain`.

    Example:
        >>> f1 = Figure("f1", "F1", "F1")
        >>> not_beaten("urgent", f1, 0.5, ("TF-IDF", 0.75))
        'This model did not beat TF-IDF, a plain model, on urgent: F1 0.5000 against 0.7500.'
        >>> not_beaten("urgent", f1, 0.8, ("TF-IDF", 0.75))
        ''
    """
    if value is None or better_ones(best[1], {task: value}, figure.better):
        return ""
    return (
        f"This model did not beat {best[0]}, a plain model, on {task}: {figure.label} "
        f"{number(value)} against {number(best[1])}."
    )


def _alone(metrics: Mapping[str, Any], task: str) -> tuple[str | None, list[str]]:
    """The main figure of a task, and the keys of all that say something alone.

    Runs of an early revision say neither.
    """
    about = metrics.get("tasks", {}).get(task)
    if about is None:
        keys = [key for key, _ in metrics["headline"][task]]
        return None, [key for key in keys if not key.endswith(("precision", "recall"))]
    main = str(about["main_figure"])
    figures = map(Figure.from_dict, about["figures"])
    return main, [f.key for f in figures if f.tested or f.key == main]


def worse_than_plain(metrics: Mapping[str, Any], split: str) -> list[str]:
    """One line for the headline figures of a run that a plain model beats; none without such.

    Figures are compared that say something alone: those that experiments test, and the main one of
    each task. A model that always names a class has a recall of 1, which is no merit. Where more
    than `FIGURES_TOLD` of them are beaten, main figures come first and the rest are counted.

    Args:
        metrics: the content of metrics.json.
        split: the part of the data.
    """
    told: list[tuple[bool, str]] = []
    total = 0
    for task, shown in headlines(metrics).items():
        main, alone = _alone(metrics, task)
        rows = metrics["baselines"].get(split, {}).get(task, {})
        figures = metrics["splits"].get(split, {}).get(task, {})
        for metric, arrow in shown:
            plain = {k: v[metric] for k, v in rows.items() if v.get(metric) is not None}
            value = figures.get(metric)
            if value is None or metric not in alone:
                continue
            total += 1
            beaten = better_ones(value, plain, "higher" if arrow == "↑" else "lower")
            if beaten:
                by = ", ".join(f"{name} {number(figure)}" for name, figure in beaten.items())
                told.append((metric == main, f"{task} {metric} {number(value)} ({by})"))
    if not told:
        return []
    lines = [line for _, line in told]
    if len(told) > FIGURES_TOLD:
        lines = [line for _, line in sorted(told, key=lambda pair: not pair[0])][:FIGURES_TOLD]
        lines.append(f"and {len(told) - FIGURES_TOLD} more of {total} figures")
    part = part_name(metrics, split)
    return [f"{metrics['arm']} is worse than a plain model on {part}: {'; '.join(lines)}"]
