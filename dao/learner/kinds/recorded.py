"""What metrics.json says of the tasks of a run, also of one of an earlier revision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dao.learner.kinds import KINDS, Task
from dao.learner.kinds.base import TaskSettings
from dao.learner.kinds.declared import BUILT_IN
from dao.learner.kinds.parts.figures import Figure, bounded, weighted_mean
from dao.learner.kinds.regression import Regression

__all__ = [
    "Recorded",
    "described",
    "headlines",
    "part_name",
    "recorded_tasks",
    "restored_tasks",
    "selection",
]


class Recorded(NamedTuple):
    """One task of a finished run.

    Attributes:
        kind: Name of its kind.
        column: The user's name of its column.
        figures: What tables show.
        selects_by: Key of the figure that selected the model.
        main_figure: Key of the one figure to tell where there is room for one.
        row_figure: Key of the figure that is the mean over rows.
        row_better: `higher` where rows are right or wrong, `lower` where they have an error.
        view: The picture that shows its predictions.
        positive: The class whose own figures are given; None where there is none, or where the run
            is of an earlier revision.
    """

    kind: str
    column: str
    figures: tuple[Figure, ...]
    selects_by: str
    main_figure: str
    row_figure: str
    row_better: str
    view: str
    positive: str | None = None

    @property
    def main(self) -> Figure:
        """The one figure to tell; the first where the main one is not among those shown."""
        return next((f for f in self.figures if f.key == self.main_figure), self.figures[0])

    @property
    def selected_by_class(self) -> bool:
        """Whether the figure that selected the model is one of the positive class."""
        return bool(_of_class(self.kind, self.selects_by))


def _of_class(kind: str, key: str) -> str:
    return next((f.of_class for f in KINDS[kind].own_figures if f.key == key), "")


def _figures(about: Mapping[str, Any]) -> tuple[Figure, ...]:
    return tuple(_figure(about["kind"], state) for state in about["figures"])


def _figure(kind: str, state: Mapping[str, Any]) -> Figure:
    """A recorded figure; runs of an earlier revision do not say which are of one class."""
    return Figure.from_dict({"of_class": _of_class(kind, state["key"]), **state})


def recorded_tasks(
    metrics: Mapping[str, Any], settings: Mapping[str, TaskSettings]
) -> dict[str, Recorded]:
    """The tasks of a finished run, by name.

    Args:
        metrics: The content of metrics.json. Before tasks had kinds it named only the figures that
            tables show, under `headline`.
        settings: Of the run's tasks.
    """
    if "tasks" in metrics:
        return {
            name: Recorded(**{**about, "figures": _figures(about)})
            for name, about in metrics["tasks"].items()
        }
    return {name: _early(settings[name], shown) for name, shown in metrics["headline"].items()}


def _early(settings: TaskSettings, shown: list[tuple[str, str]]) -> Recorded:
    kind = KINDS[settings.kind]
    keys = [key for key, _ in shown]
    figures = tuple(figure for figure in kind.own_figures if figure.key in keys)
    # Then tasks were classifications, which state it, and regressions.
    selects_by: str = getattr(settings, "select_by", Regression.selects_by)
    # Earlier revisions had no other figures to tell than these two and the mean squared error.
    main = selects_by if selects_by in ("rare_f1", "accuracy") else kind.row_figure
    rows = kind.row_figure, kind.row_better
    return Recorded(kind.kind, settings.column, figures, selects_by, main, *rows, kind.view)


def described(tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
    """The part of metrics.json that is about the tasks alone."""
    return {"tasks": {name: task.described() for name, task in tasks.items()}}


def headlines(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Task -> the figures that tables show, each with the arrow of its better direction."""
    if "tasks" not in metrics:
        return {name: [(k, a) for k, a in shown] for name, shown in metrics["headline"].items()}
    return {
        name: [(f.key, f.arrow) for f in map(Figure.from_dict, about["figures"])]
        for name, about in metrics["tasks"].items()
    }


def part_name(metrics: Mapping[str, Any], split: str) -> str:
    """What a reader sees of a part of the data: the split, or the files that were measured on.

    Example:
        >>> part_name({}, "test"), part_name({"measured_on": ["new.csv"]}, "test")
        ('test', 'new.csv')
    """
    return " and ".join(metrics.get("measured_on", [])) or split


def selection(
    tasks: Mapping[str, Recorded],
    figures: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, float],
) -> float | None:
    """The score that selects models, of figures that were recorded.

    It is `weighted_mean`, and None where predictions of a task are no numbers: without the task
    that diverged, a run would seem better than it is.

    Args:
        tasks: By name.
        figures: Of one split, by task.
        weights: Of the tasks in the mean; 1 where none is given.
    """
    rows = [figures.get(name, {}).get(task.row_figure, 0.0) for name, task in tasks.items()]
    if not all(value is not None and math.isfinite(value) for value in rows):
        return None
    return weighted_mean(
        {n: bounded(figures.get(n, {}).get(task.selects_by)) for n, task in tasks.items()}, weights
    )


def restored_tasks(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Task]:
    """The tasks that tasks.json describes; those of an earlier revision state no kind."""
    return {
        name: KINDS[state.get("kind") or BUILT_IN[name]["kind"]].from_dict(state)
        for name, state in states.items()
    }
