"""What the experiment compares: its figures, and the differences between arms that answer it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from dao.learner.kinds.recorded import Recorded

__all__ = [
    "CHECK",
    "DESCRIBED",
    "EFFECTS",
    "PRIMARY",
    "SECONDARY",
    "SELECTION",
    "About",
    "Contrast",
    "combine",
    "contrasts",
    "main_figures",
    "measured",
    "only_tested",
    "with_class",
]

About = Mapping[str, Any]
"""What is said of a figure: task (None of the selection score), key, label, unit, better, family,
whether it is the main one of its task, and of a figure of one class what that class is called."""
SELECTION = "selection"
"""The score that selects models on validation, here on the test rows: the one primary test, so
that many tasks do not use up the power of Holm's correction."""
PRIMARY, SECONDARY = "primary", "secondary"
DESCRIBED = "described"
"""In place of a family, of figures that are measured and not tested."""
CHECK = "check"
"""In place of a family, where a contrast is a check of the experiment itself."""


class Contrast(NamedTuple):
    """A weighted sum of arms, whose weights come to 0."""

    name: str
    formula: str
    weights: Mapping[str, float]
    task: str | None = None
    """The one task that all its arms have; None for every task."""
    check: bool = False
    """It is 0 by construction, which asks nothing of the data: in no family of tests."""


def _difference(a: str, b: str, task: str | None = None) -> Contrast:
    alone = " alone" if task else ""
    return Contrast(f"{a} - {b}{alone}", f"{a} - {b}", {a: 1.0, b: -1.0}, task)


PAIRS = (
    _difference("dao", "base"),
    _difference("dendrites", "sham"),
    _difference("dendrites", "capacity"),
    _difference("sham", "base")._replace(check=True),  # a sham ends with the weights of `restart`
    _difference("capacity", "base"),
)

EFFECTS = (
    Contrast(
        "DAO",
        "((dao - base) + (dao+dendrites - dendrites)) / 2",
        {"dao": 0.5, "base": -0.5, "dao+dendrites": 0.5, "dendrites": -0.5},
    ),
    Contrast(
        "dendrites",
        "((dendrites - base) + (dao+dendrites - dao)) / 2",
        {"dendrites": 0.5, "base": -0.5, "dao+dendrites": 0.5, "dao": -0.5},
    ),
    Contrast(
        "interaction",
        "(dao+dendrites - dendrites) - (dao - base)",
        {"dao+dendrites": 1.0, "dendrites": -1.0, "dao": -1.0, "base": 1.0},
    ),
    *PAIRS,
)
CORNERS = {"base", "dao", "dendrites", "dao+dendrites"}
RATE = (_difference("dendrites", "restart-lr"), _difference("restart-lr", "base"))
"""What an experiment asks besides whose dendrites have a learning rate of their own."""
PAPER = (_difference("dao-paper", "base"), _difference("dao", "dao-paper"))
"""What an experiment with the DAO paper's own arm asks besides."""


def contrasts(arms: Collection[str], tasks: Sequence[str] = ()) -> tuple[Contrast, ...]:
    """What an experiment with these arms asks: contrasts of which it has every arm.

    Without the whole 2 x 2, dendrites are compared with the base alone.

    Args:
        arms: of the experiment.
        tasks: whose single-task arms have the tasks' names.

    Example:
        >>> [contrast.name for contrast in contrasts(["base", "dendrites", "topic"], ["topic"])]
        ['base - topic alone', 'dendrites - base']
    """
    single = tuple(_difference("base", task, task) for task in tasks)
    simple = () if set(arms) >= CORNERS else (_difference("dendrites", "base"),)
    paper = (
        *PAPER,
        *(_difference(arm, task, task) for arm in ("dao", "dao-paper") for task in tasks),
    )
    found = (*EFFECTS, *RATE, *single, *simple, *(paper if "dao-paper" in arms else ()))
    return tuple(contrast for contrast in found if contrast.weights.keys() <= set(arms))


def measured(tasks: Mapping[str, Recorded]) -> dict[str, About]:
    """The figures that runs of these tasks are compared in, by `task.figure`.

    They are all that tables of the task show. Some are tested, the others are described: their
    family is `DESCRIBED`, and Holm's correction knows nothing of them.

    Example:
        >>> list(measured({}))
        ['selection']
    """
    unit = "mean of the tasks' own scores"
    found: dict[str, About] = {
        SELECTION: {
            "task": None, "key": SELECTION, "label": "Selection score", "unit": unit,
            "better": "higher", "family": PRIMARY, "main": True, "of_class": "",
        }
    }  # fmt: skip
    for name, task in tasks.items():
        for figure in task.figures:
            found[f"{name}.{figure.key}"] = {
                "task": name, "key": figure.key, "label": f"{name} {figure.label}",
                "unit": figure.unit, "better": figure.better,
                "family": SECONDARY if figure.tested else DESCRIBED,
                "main": figure.key == task.main_figure, "of_class": figure.of_class,
            }  # fmt: skip
    return found


def only_tested(metrics: Mapping[str, About]) -> dict[str, About]:
    """The figures that are tested."""
    return {metric: about for metric, about in metrics.items() if about["family"] != DESCRIBED}


def with_class(metrics: Mapping[str, About]) -> list[str]:
    """The tasks of which there are figures of one class."""
    found = [about["task"] for about in metrics.values() if about["of_class"]]
    return list(dict.fromkeys(found))


def main_figures(metrics: Mapping[str, About]) -> dict[str, str]:
    """Task -> its main figure, by `task.figure`."""
    return {
        str(about["task"]): metric
        for metric, about in metrics.items()
        if about["main"] and about["task"] is not None
    }


def combine(contrast: Contrast, figures: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The weighted sum of the arms' figures: numbers, or arrays of any one shape.

    Example:
        >>> combine(EFFECTS[2], {"base": 1.0, "dao": 2.0, "dendrites": 3.0, "dao+dendrites": 7.0})
        3.0
    """
    return sum(weight * figures[arm] for arm, weight in contrast.weights.items())
