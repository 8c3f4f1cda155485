"""How well a run is calibrated on labelled rows, before and after its probabilities are scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dao.learner.calibration.conformal import largest_coverage, limit_of
from dao.learner.calibration.record import Calibration
from dao.learner.calibration.reliability import calibration_error, likelihood_loss
from dao.learner.kinds import Task
from dao.learner.kinds.base import Array
from dao.learner.kinds.certainty.probable import Probable
from dao.learner.kinds.certainty.regions import Conformal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COVERAGE", "calibration_parts"]

COVERAGE = 0.9
"""The coverage of which every report tells."""


def calibration_parts(
    split: str,
    tasks: Mapping[str, Task],
    calibration: Calibration,
    outputs: Mapping[str, Tensor],
    rows: pd.DataFrame,
    ids: Sequence[Sequence[int]],
    coverage: float = COVERAGE,
) -> dict[str, dict[str, Any]]:
    """The parts `calibration` and `unlike` of metrics.json.

    Args:
        split: what they are about.
        tasks: those with targets among the rows, by name, with their temperatures.
        calibration: of the run.
        outputs: of the model, task -> (n, outputs of the task).
        rows: n labelled rows.
        ids: token ids of their texts.
        coverage: that regions are asked for.

    Returns:
        JSON-able. `calibration`: per task `n`, where it has probabilities `temperature`, `ece` and
        `nll`, each `before` and `after` scaling, where it has a threshold the scaled probability at
        that, and where it has regions `coverage`. `unlike`: the share of the texts that are unlike
        the training texts.
    """
    found: dict[str, Any] = {}
    for name, task in tasks.items():
        targets = task.encode(rows[name].tolist())
        known = task.labelled(targets).cpu()
        if not known.any():
            continue
        own = outputs[name][known], targets[known]
        figures = _scaling(task, *own) if isinstance(task, Probable) else {}
        if isinstance(task, Conformal) and name in calibration.scores:
            figures["coverage"] = _reached(task, calibration.scores[name], coverage, *own)
        if figures:
            found[name] = {"n": int(known.sum()), **figures}
    flagged = calibration.familiar.unlike(ids)
    about = {"n": len(flagged), "share": float(flagged.mean()), "limit": calibration.familiar.limit}
    return {"calibration": {split: found}, "unlike": {split: about}}


def _scaling(task: Probable, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """What the temperature does to the probabilities of rows that all have a target."""
    plain = task.at(1.0)
    figures: dict[str, Any] = {
        key: {"before": of(plain, outputs, targets), "after": of(task, outputs, targets)}
        for key, of in (("ece", calibration_error), ("nll", likelihood_loss))
    }
    limit = task.scaled_threshold()
    about = {} if limit is None else {"threshold": limit}
    return {"temperature": task.temperature, **about, **figures}


def _reached(
    task: Conformal, scores: Array, coverage: float, outputs: Tensor, targets: Tensor
) -> dict[str, Any]:
    """How often regions hold the truth, and how large they are; None where there can be none."""
    limit = limit_of(scores, coverage)
    about = {
        "asked": coverage,
        "validation_rows": len(scores),
        "largest": largest_coverage(len(scores)),
        "limit": limit,
        "region": task.region_size,
        "holds_answer": True,
    }
    if limit is None:
        return {**about, "reached": None, "size": None, "unsure": None}
    unsure = task.unsure(outputs, limit)
    return {
        **about,
        "reached": float((task.nonconformity(outputs, targets) <= limit).mean()),
        "size": float(task.region_sizes(outputs, limit).mean()),
        "unsure": None if unsure is None else float(unsure.mean()),
    }
