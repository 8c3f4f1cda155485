"""The coverage that was asked for beside the one that a run reached on its test rows, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.basics.numbers import percent
from dao.learner.basics.wording import count

__all__ = ["TRAINED", "reached"]

TESTED = "test"
TRAINED = "eager"
"""The engine of the training, and of the run's own figures."""


def reached(metrics: Mapping[str, Any], task: str, coverage: float, engine: str = TRAINED) -> str:
    """What a set or interval of a task says of its coverage.

    Args:
        metrics: the content of metrics.json, which has what was reached at one coverage.
        task: its name.
        coverage: that was asked for.
        engine: what runs the model; with another than that of the training the figures differ.

    Example:
        >>> about = {"asked": 0.9, "reached": 0.912, "region": "width"}
        >>> metrics = {"calibration": {"test": {"price": {"n": 480, "coverage": about}}}}
        >>> reached(metrics, "price", 0.9)
        '90 % asked, 91.2 % reached on 480 test rows'
    """
    asked = f"{percent(coverage)} asked"
    own = metrics.get("calibration", {}).get(TESTED, {}).get(task, {})
    found = own.get("coverage")
    if not found or found["reached"] is None:
        return asked
    # Runs of earlier revisions measured smaller sets, which could lack the answer itself.
    smaller = found["region"] == "classes" and not found.get("holds_answer")
    share = f"{'at least ' if smaller else ''}{percent(found['reached'])}"
    rows = count(own["n"], "test row")
    own_engine = engine == TRAINED
    if found["asked"] == coverage:
        return f"{asked}, {share} reached on {rows}{'' if own_engine else ' (as trained)'}"
    also = "" if own_engine else ", as trained"
    return f"{asked} (where {percent(found['asked'])} is asked, {share} is reached on {rows}{also})"
