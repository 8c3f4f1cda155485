"""What a figure of a task is called, which way it improves, and where it appears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["ARROWS", "Figure", "bounded", "weighted_mean"]

ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Figure:
    """One figure of a kind of task.

    Attributes:
        key: Its name among the task's metrics, such as "macro_f1".
        label: What a reader sees.
        unit: Of the number, for axes and captions.
        better: The direction in which it improves.
        shown: Whether tables show it.
        tested: Whether an experiment tests it; what is tested is shown as well.
        of_class: Of a figure of one class, what this class is called, such as "rare"; else empty.
    """

    key: str
    label: str
    unit: str
    better: Literal["higher", "lower"] = "higher"
    shown: bool = True
    tested: bool = True
    of_class: str = ""

    @property
    def arrow(self) -> str:
        """The better direction as a sign."""
        return ARROWS[self.better]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Figure:
        """The figure that `to_dict` described."""
        return cls(**state)


def bounded(value: float | None) -> float | None:
    """A figure to select by, cut off at -1.

    Figures that select are 1 at best. R² and the kappa of a poor model can be far below 0, and one
    such task would decide the mean over all tasks alone.

    Example:
        >>> bounded(0.5), bounded(-40.0), bounded(None)
        (0.5, -1.0, None)
    """
    return None if value is None else max(-1.0, value)


def weighted_mean(
    scores: Mapping[str, float | None], weights: Mapping[str, float] | None = None
) -> float | None:
    """The mean of the tasks' scores, by which models are selected.

    Args:
        scores: By task; one that is undefined, as that of a class without rows, takes no part.
        weights: Of the tasks, above 0; 1 where none is given.

    Returns:
        None where no score is defined.

    Example:
        >>> weighted_mean({"topic": 0.5, "stars": 0.25, "tags": None}, {"stars": 4.0})
        0.3
    """
    weights = weights or {}
    defined = {name: score for name, score in scores.items() if score is not None}
    if not defined:
        return None
    total = sum(weights.get(name, 1.0) for name in defined)
    return sum(weights.get(name, 1.0) * score for name, score in defined.items()) / total
