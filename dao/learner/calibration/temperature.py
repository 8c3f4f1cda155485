"""The temperature of a task's probabilities, fitted on validation rows."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

from dao.learner.calibration.reliability import likelihood_loss
from dao.learner.kinds import Task
from dao.learner.kinds.certainty.probable import Probable

__all__ = ["COLDEST", "HOTTEST", "fitted_temperature", "with_temperature"]

COLDEST, HOTTEST = 0.05, 20.0
"""Between these the temperature is looked for."""
CLOSE = 1e-3  # of the logarithm of the temperature: what counts as the edge

AnyTask = TypeVar("AnyTask", bound=Task)


def fitted_temperature(task: Probable, outputs: Tensor, targets: Tensor) -> float:
    """The temperature with the smallest negative log-likelihood on rows (Guo et al. 2017).

    The likelihood has one minimum: for every kind it is convex in 1 / T. It has none between the
    bounds where the rows are told apart without any error, or not at all; nothing is scaled then.

    Args:
        task: whose own temperature does not matter.
        outputs: of the model, (n, width).
        targets: encoded; rows without one are passed over.

    Returns:
        The temperature; 1 where there is no row or no minimum.
    """
    from scipy.optimize import minimize_scalar

    known = task.labelled(targets).cpu()
    if not known.any():
        return 1.0
    plain, outputs, targets = task.at(1.0), outputs[known].double(), targets[known]
    ends = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(
        lambda log: likelihood_loss(plain, outputs / math.exp(log), targets),
        bounds=ends, method="bounded", options={"xatol": CLOSE / 10},
    )  # fmt: skip
    at_an_edge = min(found.x - ends[0], ends[1] - found.x) < CLOSE
    return 1.0 if at_an_edge else math.exp(found.x)


def with_temperature(task: AnyTask, outputs: Tensor, targets: Tensor) -> AnyTask:
    """The task with its fitted temperature; a task without probabilities as it is."""
    if not isinstance(task, Probable):
        return task
    return task.at(fitted_temperature(task, outputs, targets))
