"""Regression of one number."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from tasks import baselines
from tasks.base import Task
from tasks.table import Table

__all__ = ["Regression"]

LARGEST = 3.4e38  # of 32 bits, in which targets that are not standardised are learned
ROUNDING = 4 * np.finfo(float).eps  # relative: what 64 bits leave of a difference of equal numbers


class Regression(Task):
    """One number, learned by squared error on its standardised value.

    The head sees z = (y - mean) / sd * scale. Encoded targets, predictions and metrics stay in
    the unit of y, so they can be compared across any choice of the three.

    Args:
        name: Name of the task.
        column: Name the user gave the score column.
        mean: Subtracted from the target.
        sd: Divides the target.
        scale: Multiplies the target that the head sees. Anything but 1 makes the losses of two
            tasks differ on purpose: the loss grows with its square.

    Example:
        >>> import torch
        >>> task = Regression("reg", "score", mean=10.0, sd=2.0)
        >>> task.predict(torch.tensor([[1.0], [-0.5]]))
        {'reg': [12.0, 9.0]}
    """

    headline: ClassVar[tuple[tuple[str, str], ...]] = (("r2", "↑"), ("mse", "↓"))

    def __init__(
        self, name: str, column: str, mean: float = 0.0, sd: float = 1.0, scale: float = 1.0
    ) -> None:
        super().__init__(name, column, outputs=1)
        self.mean = mean
        self.sd = sd
        self.scale = scale

    @classmethod
    def fit(cls, name: str, table: Table, *, standardize: bool = True, scale: float = 1.0) -> Self:
        """Take mean and standard deviation from the training rows.

        Args:
            name: Name of the task and of its column in the table.
            table: Rows of every split.
            standardize: Learn (y - mean) / sd rather than y.
            scale: Factor on the target that the head sees, positive.

        Raises:
            UserError: No training row has a score, all scores are equal, or `scale` is not
                positive.
        """
        column = table.columns.targets[name]
        scores = np.array(table.values(name, "train"), dtype=float)
        if not (math.isfinite(scale) and scale > 0):
            raise UserError(f"`scale` should be > 0. Found {scale}.")
        if scores.size == 0:
            raise UserError(
                f"`{column}` should have scores in the train split. Found none. "
                f"Name the score column with data.{name}=COLUMN."
            )
        mean, sd = float(scores.mean()), float(scores.std())
        if _constant(scores) or sd == 0:
            raise UserError(
                f"`{column}` should vary in the train split. Found {scores[0]:g} in all "
                f"{scores.size} rows. Name another column with data.{name}=COLUMN."
            )
        if standardize:
            return cls(name, column, mean, sd, scale)
        if _constant(scores.astype(np.float32)):
            raise UserError(
                f"`{column}` should vary in 32 bits where it is learned as it is. Found "
                f"{scores.min():.17g} to {scores.max():.17g}. Leave out reg.standardize=false."
            )
        return cls(name, column, scale=scale)

    @staticmethod
    def parse(cell: object) -> float | None:
        """Turn a cell into a finite number."""
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return None
        expected = "a finite number, or empty where it is missing"
        if isinstance(cell, bool) or not isinstance(cell, str | Real | Decimal):
            raise ValueError(expected)
        if isinstance(cell, str) and "_" in cell:  # Python's way to group digits
            raise ValueError(expected)
        try:
            number = float(cell)
        except (ValueError, OverflowError):
            raise ValueError(expected) from None
        if not math.isfinite(number):
            raise ValueError(expected)
        if abs(number) > LARGEST:
            raise ValueError(f"a number of at most {LARGEST:.1e} in size")
        return number

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn scores into float64 in their own unit, NaN where missing."""
        numbers = [math.nan if value is None else value for value in self._parse_all(values)]
        return torch.tensor(numbers, dtype=torch.float64)

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the targets that are a number."""
        return ~targets.isnan()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error on the standardised, scaled target."""
        # Centred in 64 bits, because 32 bits hold a date in seconds to two minutes only. Scores
        # around 0 lose nothing, and are centred in 32 bits as in earlier versions, to the bit.
        origin = self.mean if abs(self.mean) > self.sd else 0.0
        centred = (targets.double() - origin).float() - (self.mean - origin)
        standardised = centred / self.sd * self.scale
        return functional.mse_loss(outputs.squeeze(-1).float(), standardised)

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The predicted score in the user's unit."""
        return {self.name: self.decide(outputs).tolist()}

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Outputs converted back to the user's unit."""
        raw = outputs.detach().squeeze(-1).cpu().double().numpy()
        return raw / self.scale * self.sd + self.mean

    def compare(self, predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
        """Errors and correlations in the user's unit.

        `cosine` is the measure of SemEval-2017 task 5, sum(p g) / (|p| |g|) over all rows.
        Where a constant leaves a correlation undefined it is 0; where all targets are equal, or
        there is only one, R2 is None.
        """
        varied = np.ptp(actual) > 0
        return {
            "mse": float(mean_squared_error(actual, predicted)),
            "mae": float(mean_absolute_error(actual, predicted)),
            "r2": float(r2_score(actual, predicted)) if varied else None,
            "pearson": _cosine(_centred(predicted), _centred(actual)),
            "cosine": _cosine(predicted, actual),
        }

    def score(self, metrics: Mapping[str, Any]) -> float | None:
        """R2, the share of the variance explained; None without variance."""
        return metrics.get("r2")

    def baselines(
        self, train: tuple[Sequence[str], Tensor], test: tuple[Sequence[str], Tensor]
    ) -> dict[str, dict[str, Any]]:
        """The training mean, and TF-IDF with ridge regression."""
        texts, scores = self._known(*train)
        mean = np.full(len(test[0]), scores.mean())
        linear = baselines.regress(texts, scores, test[0])
        return {
            "mean predictor": self.measure(mean, test[1]),
            "TF-IDF + ridge regression": self.measure(linear, test[1]),
        }


def _constant(numbers: np.ndarray) -> bool:
    """Whether numbers differ by rounding at most."""
    return bool(np.ptp(numbers) <= ROUNDING * abs(numbers).max())


def _centred(numbers: np.ndarray) -> np.ndarray:
    """Numbers minus their mean; zeros where all are equal, instead of rounding errors."""
    return np.zeros(len(numbers)) if _constant(numbers) else numbers - numbers.mean()


def _cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.astype(float), right.astype(float)
    norms = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / norms) if norms > 0 else 0.0
