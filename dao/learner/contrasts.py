"""What the experiment compares: its arms, its figures, and the differences that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["ARMS", "EFFECTS", "METRICS", "PAIRS", "SETS_APART", "Contrast", "combine"]

RESTART = {"dendrites.enabled": True, "dendrites.control": "restart"}
GROWN = {"dendrites.enabled": True, "dendrites.control": "none"}

ARMS: dict[str, dict[str, Any]] = {
    "base": {"weighting": "equal", **RESTART},
    "dao": {"weighting": "dao", **RESTART},
    "dendrites": {"weighting": "equal", **GROWN},
    "dao+dendrites": {"weighting": "dao", **GROWN},
    "sham": {"weighting": "equal", **GROWN, "dendrites.control": "sham"},
    "capacity": {"weighting": "equal", **GROWN, "dendrites.control": "capacity"},
    "cls": {"tasks": ["cls"], **RESTART},
    "reg": {"tasks": ["reg"], **RESTART},
}
"""What defines each arm; every other setting is the same in all of them. `restart` reloads the best
weights and begins a new optimizer where the other arms grow, so that this is equal too."""

SETS_APART = ("tasks", "weighting", "dendrites.enabled", "dendrites.control")
"""The settings in which arms may differ."""

METRICS: dict[str, dict[str, str]] = {
    "accuracy": {"task": "cls", "label": "Accuracy", "unit": "share", "better": "higher"},
    "macro_f1": {"task": "cls", "label": "Macro F1", "unit": "F1", "better": "higher"},
    "mse": {"task": "reg", "label": "MSE", "unit": "score²", "better": "lower"},
    "r2": {"task": "reg", "label": "R²", "unit": "share of variance", "better": "higher"},
}
"""Figures of the test split. Accuracy and MSE are the headline, one family of tests; macro F1 and
R² are secondary, a family of their own."""


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
