"""What the experiment compares: its figures, and the differences between arms that answer it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

__all__ = [
    "CHECK",
    "EFFECTS",
    "METRICS",
    "RARE",
    "Contrast",
    "combine",
    "contrasts",
    "families",
    "measured",
]

METRICS: dict[str, dict[str, str]] = {
    "accuracy": {"task": "cls", "label": "Accuracy", "unit": "share", "better": "higher"},
    "macro_f1": {"task": "cls", "label": "Macro F1", "unit": "F1", "better": "higher"},
    "mse": {"task": "reg", "label": "MSE", "unit": "score²", "better": "lower"},
    "r2": {"task": "reg", "label": "R²", "unit": "share of variance", "better": "higher"},
}
"""Figures of the test split."""
RARE = {"rare_f1": {"task": "cls", "label": "Rare F1", "unit": "F1", "better": "higher"}}
"""The figure of runs that are selected by the F1 of one class, beside `METRICS`."""
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
    _difference("base", "cls", "cls"),
    _difference("base", "reg", "reg"),
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
PAPER = (
    _difference("dao-paper", "base"),
    _difference("dao", "dao-paper"),
    *(_difference(arm, task, task) for arm in ("dao", "dao-paper") for task in ("cls", "reg")),
)
"""What an experiment with the DAO paper's own arm asks besides."""


def contrasts(arms: Collection[str]) -> tuple[Contrast, ...]:
    """What an experiment with these arms asks: contrasts of which it has every arm.

    Without the whole 2 x 2, dendrites are compared with the base alone.

    Example:
        >>> [contrast.name for contrast in contrasts(["base", "dendrites"])]
        ['dendrites - base']
    """
    simple = () if set(arms) >= CORNERS else (_difference("dendrites", "base"),)
    paper = PAPER if "dao-paper" in arms else ()
    found = (*EFFECTS, *simple, *paper)
    return tuple(contrast for contrast in found if contrast.weights.keys() <= set(arms))


def measured(*, rare: bool) -> dict[str, dict[str, str]]:
    """The figures of runs, `rare` if they are selected by the F1 of one class."""
    return {**RARE, **METRICS} if rare else METRICS


def families(metrics: Collection[str]) -> dict[str, str]:
    """Per figure, the tests with which it shares Holm's adjustment: `headline` or `secondary`.

    Where there is the F1 of a rare class, it takes the place of accuracy, which says little then.

    Example:
        >>> families(["accuracy", "macro_f1"])
        {'accuracy': 'headline', 'macro_f1': 'secondary'}
        >>> families(["rare_f1", "accuracy"])
        {'rare_f1': 'headline', 'accuracy': 'secondary'}
    """
    first = ("rare_f1" if "rare_f1" in metrics else "accuracy", "mse")
    return {metric: "headline" if metric in first else "secondary" for metric in metrics}


def combine(contrast: Contrast, figures: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The weighted sum of the arms' figures: numbers, or arrays of any one shape.

    Example:
        >>> combine(EFFECTS[2], {"base": 1.0, "dao": 2.0, "dendrites": 3.0, "dao+dendrites": 7.0})
        3.0
    """
    return sum(weight * figures[arm] for arm, weight in contrast.weights.items())
