"""What a run keeps of its validation rows for sets, intervals and flags: calibration.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dao.learner.calibration.conformal import calibration_scores
from dao.learner.calibration.unlike import Familiar
from dao.learner.kinds import Task
from dao.learner.kinds.base import Array
from dao.learner.kinds.certainty.regions import Conformal
from dao.learner.storage.record import RunFolder

__all__ = ["CALIBRATION", "Calibration", "calibration_of", "read_calibration"]

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """What validation rows say of new ones.

    Attributes:
        scores: per task that has regions, nonconformities of its validation rows, ascending.
        familiar: what the training texts are like.
    """

    scores: Mapping[str, Array]
    familiar: Familiar

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "scores": {name: found.tolist() for name, found in self.scores.items()},
            "unlike": self.familiar.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Calibration:
        """What `to_dict` described."""
        scores = {name: np.array(found, dtype=float) for name, found in state["scores"].items()}
        return cls(scores, Familiar.from_dict(state["unlike"]))


def calibration_of(
    tasks: Mapping[str, Task],
    outputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    familiar: Familiar,
    seed: int,
) -> Calibration:
    """What a run keeps of its validation rows.

    Args:
        tasks: with their temperatures, by name.
        outputs: of the selected model for the validation rows, task -> (n, outputs of the task).
        targets: of these rows, encoded, task -> (n, ...).
        familiar: what the training texts are like.
        seed: of the choice among very many rows.
    """
    scores = {}
    for name, task in tasks.items():
        known = task.labelled(targets[name]).cpu()
        if isinstance(task, Conformal) and known.any():
            rows = outputs[name][known], targets[name][known]
            scores[name] = np.array(calibration_scores(task, *rows, seed))
    return Calibration(scores, familiar)


def read_calibration(folder: RunFolder) -> Calibration | None:
    """What a finished run keeps of its validation rows; None for a run of an earlier revision.

    Raises:
        UserError: the file cannot be read.
    """
    if not (folder.path / CALIBRATION).is_file():
        return None
    return Calibration.from_dict(folder.read(CALIBRATION, "scores", "unlike"))
