"""What the experiment compares: its figures, and the differences between arms that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["EFFECTS", "FAMILIES", "METRICS", "PAIRS", "Contrast", "combine"]

METRICS: dict[str, dict[str, str]] = {
    "accuracy": {"task": "cls", "label": "Accuracy", "unit": "share", "better": "higher"},
    "macro_f1": {"task": "cls", "label": "Macro F1", "unit": "F1", "better": "higher"},
    "mse": {"task": "reg", "label": "MSE", "unit": "score²", "better": "lower"},
    "r2": {"task": "reg", "label": "R²", "unit": "share of variance", "better": "higher"},
}
"""Figures of the test split."""

FAMILIES = {"accuracy": "headline", "mse": "headline", "macro_f1": "secondary", "r2": "secondary"}
"""Per figure, the tests with which it shares Holm's adjustment."""


class Contrast(NamedTuple):
    """A weighted sum of arms, whose weights come to 0."""

    name: str
    formula: str
    weights: Mapping[str, float]
    task: str | None = None
    """The one task that all its arms have; None for every task."""


def _difference(a: str, b: str, task: str | None = None) -> Contrast:
    alone = " alone" if task else ""
    return Contrast(f"{a} - {b}{alone}", f"{a} - {b}", {a: 1.0, b: -1.0}, task)


PAIRS = (
    _difference("dao", "base"),
    _difference("dendrites", "sham"),
    _difference("dendrites", "capacity"),
    _difference("sham", "base"),
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


def combine(contrast: Contrast, figures: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The weighted sum of the arms' figures: numbers, or arrays of any one shape.

    Example:
        >>> combine(EFFECTS[2], {"base": 1.0, "dao": 2.0, "dendrites": 3.0, "dao+dendrites": 7.0})
        3.0
    """
    return sum(weight * figures[arm] for arm, weight in contrast.weights.items())
