"""How often predictions of a stated confidence are right, and how likely the truth was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dao.learner.kinds.base import Array
from dao.learner.kinds.certainty.probable import Probable

__all__ = [
    "ECE_BINS",
    "Reliability",
    "calibration_error",
    "expected_error",
    "likelihood_loss",
    "reliability",
]

BINS, ECE_BINS = 10, 15


@dataclass(frozen=True)
class Reliability:
    """How often the predicted class is right, by the probability that the model gave it.

    Attributes:
        confidence: mean probability of the most probable class, per bin that has rows.
        accuracy: share of rows in the same bins whose most probable class is right.
        count: rows in the same bins.
        ece: expected calibration error, as `expected_error` has it.
    """

    confidence: Array
    accuracy: Array
    count: Array
    ece: float


def reliability(confidence: Array, correct: Array) -> Reliability:
    """Bin rows by confidence, in ten bins of equal width (Guo et al. 2017, arXiv 1706.04599).

    Args:
        confidence: probability of the most probable class, one per row.
        correct: whether that class is right.
    """
    mean, right, count = _binned(confidence, correct, BINS)
    return Reliability(mean, right, count, expected_error(confidence, correct))


def expected_error(confidence: Array, correct: Array, bins: int = ECE_BINS) -> float:
    """Expected calibration error: the mean over the rows of |accuracy - confidence| of their bin.

    Args:
        confidence: probability of the most probable class, one per row.
        correct: whether that class is right.
        bins: of equal width between 0 and 1.

    Example:
        >>> expected_error(np.array([0.9, 0.8, 0.6, 0.7]), np.array([1, 1, 0, 1]), bins=2)
        0.0
    """
    mean, right, count = _binned(confidence, correct, bins)
    return round(float(np.sum(count * np.abs(right - mean)) / max(len(confidence), 1)), 12)


def _binned(confidence: Array, correct: Array, bins: int) -> tuple[Array, Array, Array]:
    """Mean confidence, share of right rows and number of rows, of each bin that has rows."""
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    mean = np.bincount(place, confidence, bins)[used] / count[used]
    right = np.bincount(place, correct.astype(float), bins)[used] / count[used]
    return mean, right, count[used]


def calibration_error(task: Probable, outputs: Tensor, targets: Tensor) -> float:
    r"""Expected calibration error of the most probable answers, between 0 and 1.

    Guo et al. 2017 (arXiv 1706.04599), equation 3, with M = 15 bins of equal width:

    .. math:: ECE = \sum_{m=1}^{M} \frac{|B_m|}{n} |acc(B_m) - conf(B_m)|

    :math:`B_m` are the answers whose largest probability is in ((m - 1) / M, m / M], acc the share
    of them that is right, conf the mean of that probability. A row of `multilabel` is one answer
    per label.

    Args:
        task: with the temperature of its probabilities.
        outputs: of the model, (n, width), n > 0.
        targets: encoded, all present.
    """
    chances = task.log_probabilities(outputs).exp()
    right = chances.argmax(dim=-1) == task.places(targets).to(chances.device)
    most = chances.amax(dim=-1).flatten().cpu().numpy()
    return expected_error(most, right.flatten().cpu().numpy())


def likelihood_loss(task: Probable, outputs: Tensor, targets: Tensor) -> float:
    """Mean negative log-likelihood of the true answers, in nats.

    Args:
        task: with the temperature of its probabilities.
        outputs: of the model, (n, width), n > 0.
        targets: encoded, all present.
    """
    chances = task.log_probabilities(outputs)
    places = task.places(targets).to(chances.device)
    return float(-chances.gather(-1, places[..., None]).mean())
