"""Regression of one number."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from dao.data_weights import label_density_weights
from dao.errors import UserError
from dao.learner.kinds.base import Array, Labelled, Recoding, TaskSettings
from dao.learner.kinds.certainty.regions import Interval
from dao.learner.kinds.parts import baselines
from dao.learner.kinds.parts.cells import parse_number
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.parts.targets import parse_all

__all__ = ["Regression", "RegressionSettings"]

ROUNDING = 4 * np.finfo(float).eps  # relative: what 64 bits leave of a difference of equal numbers
CELLS = 41  # as `label_density_weights` has them
LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}


class RegressionSettings(TaskSettings):
    """Options of a task with one number per text."""

    takes_words: ClassVar[bool] = False

    kind: Literal["regression"] = "regression"
    loss: Literal["mse", "mae", "huber"] = "mse"
    """Mean squared error, mean absolute error, or Huber's loss, which is squared below 1 and
    absolute above, of the target as it is learned (delta = 1)."""
    standardize: bool = True
    """Train on (y - mean) / sd; figures are always in the units of the data."""
    scale: float = Field(1.0, gt=0)
    """Multiplies the training target, to make a mismatch of loss scales on purpose."""
    density: float = Field(0.0, ge=0)
    """Rows with rare targets count more: weights of density^-gamma with this gamma (label
    distribution smoothing, arXiv 2102.09554); 0: all rows alike."""


class Regression(Interval):
    """One number, learned by an error of its standardised value.

    The head sees z = (y - mean) / sd * scale. Encoded targets, predictions and metrics stay in
    the unit of y, so they can be compared across any choice of the three.

    Args:
        name: Name of the task.
        column: Name the user gave the score column.
        mean: Subtracted from the target.
        sd: Divides the target.
        scale: Multiplies the target that the head sees. Anything but 1 makes the losses of two
            tasks differ on purpose: the squared error grows with its square.
        loss_kind: "mse", "mae" or "huber".
        row_weight: Weights of rows by their target: the ends of the range, and the weight in each
            of the cells of equal width between them; None for equal weights.
        show: Keys of the figures that tables show; none for those that suit.

    Example:
        >>> import torch
        >>> task = Regression("reg", "score", mean=10.0, sd=2.0)
        >>> task.predict(torch.tensor([[1.0], [-0.5]]))
        {'reg': [12.0, 9.0]}
    """

    kind: ClassVar[str] = "regression"
    options: ClassVar[type[TaskSettings]] = RegressionSettings
    own_figures: ClassVar[tuple[Figure, ...]] = (
        Figure("r2", "R²", "share of variance"),
        Figure("mse", "MSE", "score²", "lower"),
        Figure("mae", "MAE", "score", "lower", shown=False, tested=False),
        Figure("pearson", "Pearson", "correlation", shown=False, tested=False),
        Figure("spearman", "Spearman", "rank correlation", shown=False, tested=False),
        Figure("cosine", "Cosine", "similarity", shown=False, tested=False),
    )
    main_figure = "mse"
    row_figure: ClassVar[str] = "mse"
    row_better: ClassVar[Any] = "lower"
    view: ClassVar[Any] = "scatter"
    hub_type: ClassVar[str] = "text-regression"
    evidence_unit: ClassVar[str] = "the predicted number"
    selects_by: ClassVar[str] = "r2"

    def __init__(
        self,
        name: str,
        column: str,
        mean: float = 0.0,
        sd: float = 1.0,
        scale: float = 1.0,
        loss_kind: str = "mse",
        row_weight: Mapping[str, Any] | None = None,
        show: Sequence[str] = (),
    ) -> None:
        super().__init__(name, column, outputs=1, show=show)
        self.mean = mean
        self.sd = sd
        self.scale = scale
        self.loss_kind = loss_kind
        self.row_weight = None if row_weight is None else dict(row_weight)

    @classmethod
    def fit(
        cls,
        name: str,
        settings: RegressionSettings,
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """Take mean and standard deviation from the training rows.

        Raises:
            UserError: No training row has a score, or all scores are equal.
        """
        column = settings.column
        scores = np.array(values["train"], dtype=float)
        if scores.size == 0:
            raise UserError(
                f"`{column}` should have scores in the train split. Found none. "
                f"Name the score column of {name} with {name}.column=COLUMN."
            )
        mean, sd = float(scores.mean()), float(scores.std())
        if _constant(scores) or sd == 0:
            raise UserError(
                f"`{column}` should vary in the train split. Found {scores[0]:g} in all "
                f"{scores.size} rows. Name another column with {name}.column=COLUMN."
            )
        if not settings.standardize:
            mean, sd = 0.0, 1.0
            if _constant(scores.astype(np.float32)):
                raise UserError(
                    f"`{column}` should vary in 32 bits where it is learned as it is. Found "
                    f"{scores.min():.17g} to {scores.max():.17g}. Leave out "
                    f"{name}.standardize=false."
                )
        return cls(
            name,
            column,
            mean,
            sd,
            settings.scale,
            loss_kind=settings.loss,
            row_weight=_density_weights(scores, settings.density) if settings.density else None,
            show=settings.show,
        )

    @staticmethod
    def parse(cell: object) -> float | None:
        """Turn a cell into a finite number."""
        return parse_number(cell)

    @classmethod
    def summary(cls, values: Sequence[Any]) -> dict[str, float]:
        """The range and the mean."""
        scores = np.asarray(values, dtype=float)
        if not len(scores):
            return {}
        found = {"lowest": scores.min(), "mean": scores.mean(), "highest": scores.max()}
        return {name: float(value) for name, value in found.items()}

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn scores into float64 in their own unit, NaN where missing."""
        numbers = [
            math.nan if value is None else value
            for value in parse_all(self.column, self.parse, values)
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the targets that are a number."""
        return ~targets.isnan()

    def row_weights(self, targets: Tensor) -> Tensor:
        """1, or what the density of the target makes of it; 0 where the target is missing."""
        known = super().row_weights(targets)
        return known if self.row_weight is None else known * self._by_density(targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean error of the standardised, scaled target, weighted by density where asked for."""
        # Centred in 64 bits, because 32 bits hold a date in seconds to two minutes only. Scores
        # around 0 lose nothing, and are centred in 32 bits as in earlier versions, to the bit.
        origin = self.mean if abs(self.mean) > self.sd else 0.0
        centred = (targets.double() - origin).float() - (self.mean - origin)
        standardised = centred / self.sd * self.scale
        outputs, error = outputs.squeeze(-1).float(), LOSSES[self.loss_kind]
        if self.row_weight is None:
            return error(outputs, standardised)
        weights = self._by_density(targets).to(outputs)
        return (weights * error(outputs, standardised, reduction="none")).sum() / weights.sum()

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The predicted score in the user's unit."""
        return {self.name: self.decide(outputs).tolist()}

    def decide(self, outputs: Tensor) -> Array:
        """Outputs converted back to the user's unit."""
        raw = outputs.detach().squeeze(-1).cpu().double().numpy()
        return raw / self.scale * self.sd + self.mean

    def evidence(self, outputs: Tensor, decided: Array) -> Tensor:
        """The predicted numbers in the user's unit, whatever was decided."""
        return outputs.squeeze(-1).double() / self.scale * self.sd + self.mean

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Errors and correlations in the user's unit.

        `cosine` is the measure of SemEval-2017 task 5, sum(p g) / (|p| |g|) over all rows.
        Where a constant leaves a correlation undefined it is 0; where all targets are equal, or
        there is only one, R2 is None.
        """
        from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

        varied = np.ptp(actual) > 0
        return {
            "mse": float(mean_squared_error(actual, predicted)),
            "mae": float(mean_absolute_error(actual, predicted)),
            "r2": float(r2_score(actual, predicted)) if varied else None,
            "pearson": _cosine(_centred(predicted), _centred(actual)),
            "spearman": _spearman(predicted, actual),
            "cosine": _cosine(predicted, actual),
        }

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """The squared error of each row, in the unit of the data."""
        errors = np.asarray(predicted, dtype=float) - np.asarray(actual, dtype=float)
        return np.asarray(errors**2)

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The training mean, and TF-IDF with ridge regression."""
        texts, scores = self.known(train)
        mean = np.full(len(test[0]), scores.mean())
        linear = baselines.regress(texts, scores, test[0])
        return {
            "mean predictor": self.measure(mean, test[1]),
            "TF-IDF + ridge regression": self.measure(linear, test[1]),
        }

    def _by_density(self, targets: Tensor) -> Tensor:
        """The weight of each target, (n,) float64; of a missing one any."""
        table = self.row_weight or {}
        weights = torch.tensor(table["weights"], dtype=torch.float64, device=targets.device)
        cells = _cells(targets.double().nan_to_num(), table["low"], table["high"], len(weights))
        return weights[cells]


def _cells(values: Tensor, low: float, high: float, number: int) -> Tensor:
    """In which of so many cells of equal width between two ends each value lies."""
    return ((values - low) / (high - low) * number).long().clamp(0, number - 1)


def _density_weights(scores: Array, gamma: float) -> dict[str, Any]:
    """`dao.label_density_weights` by cell; a cell without a training row has the largest."""
    values = torch.from_numpy(scores)
    weights = label_density_weights(values, gamma=gamma)
    low, high = float(values.min()), float(values.max())
    table = torch.full((CELLS,), float(weights.max()), dtype=torch.float64)
    table[_cells(values, low, high, CELLS)] = weights
    return {"low": low, "high": high, "weights": table.tolist()}


def _spearman(predicted: Array, actual: Array) -> float:
    """Rank correlation; 0 where a constant leaves it undefined."""
    from scipy.stats import spearmanr

    if _constant(predicted) or _constant(actual):
        return 0.0
    return float(spearmanr(predicted, actual).statistic)


def _constant(numbers: Array) -> bool:
    """Whether numbers differ by rounding at most."""
    return bool(np.ptp(numbers) <= ROUNDING * abs(numbers).max())


def _centred(numbers: Array) -> Array:
    """Numbers minus their mean; zeros where all are equal, instead of rounding errors."""
    return np.zeros(len(numbers)) if _constant(numbers) else np.asarray(numbers - numbers.mean())


def _cosine(left: Array, right: Array) -> float:
    left, right = left.astype(float), right.astype(float)
    norms = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / norms) if norms > 0 else 0.0
