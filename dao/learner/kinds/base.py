"""What the training loop asks of a task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from dao.errors import UserError
from tasks.table import shown

__all__ = ["Task"]


class Task(ABC):
    """One thing to learn from a text: its targets, its loss, its metrics.

    A batch holds rows of every task. Rows without a target for this task carry a mark in the
    encoded targets, and `labelled` finds the others.

    Args:
        name: Name of the task, such as "cls".
        column: Name the user gave the target column; error messages use it.
        outputs: Width of the head.
    """

    def __init__(self, name: str, column: str, outputs: int) -> None:
        self.name = name
        self.column = column
        self.outputs = outputs

    @property
    @abstractmethod
    def headline(self) -> tuple[tuple[str, str], ...]:
        """The metrics a table shows, each with its better direction: ("accuracy", "↑")."""

    @staticmethod
    @abstractmethod
    def parse(cell: object) -> object | None:
        """Turn one cell of a data file into a target value.

        Returns:
            The value, or None where the cell is empty.

        Raises:
            ValueError: The cell holds something that is no target; the message says what is
                expected instead.
        """

    @abstractmethod
    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn target values, None where missing, into one tensor of shape (n,).

        Raises:
            UserError: A value cannot be a target of this task.
        """

    @abstractmethod
    def labelled(self, targets: Tensor) -> Tensor:
        """Boolean mask, shape (n,), of the encoded targets that are present."""

    def row_weights(self, targets: Tensor) -> Tensor:
        """What each encoded target counts in the mean that `loss` takes: (n,), 0 where missing.

        A batch that is split over processes gets the loss of the whole by these.
        """
        return self.labelled(targets).double()

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of outputs (n, width) against encoded targets (n,), all present."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Columns for a table of predictions, one entry per row of outputs (n, width)."""

    @abstractmethod
    def decide(self, outputs: Tensor) -> np.ndarray:
        """Predictions, shape (n,), in the unit of the encoded targets."""

    @abstractmethod
    def compare(self, predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
        """Metrics of predictions against encoded targets, both (n,), n > 0 and all present."""

    @abstractmethod
    def score(self, metrics: Mapping[str, Any]) -> float | None:
        """The number that selects a model on the validation split; higher is better.

        None where it is undefined, such as on too few rows.
        """

    @abstractmethod
    def baselines(
        self, train: tuple[Sequence[str], Tensor], test: tuple[Sequence[str], Tensor]
    ) -> dict[str, dict[str, Any]]:
        """Metrics on `test` of the plain models that any result has to beat.

        Args:
            train: Texts and their encoded targets.
            test: Texts and their encoded targets.
        """

    def notes(self) -> list[str]:
        """What a person should know of this task before it is trained, in short lines."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """State as JSON: the arguments of the constructor, which a task keeps by their names."""
        return {name: value for name, value in vars(self).items() if name != "outputs"}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild the task that `to_dict` described."""
        return cls(**state)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """JSON-able metrics over the rows with a target; `n` counts them."""
        return self.measure(self.decide(outputs), targets)

    def measure(self, predicted: np.ndarray, targets: Tensor) -> dict[str, Any]:
        """Metrics of finished predictions (n,) against encoded targets (n,)."""
        known = self.labelled(targets).cpu().numpy()
        if not known.any():
            return {"n": 0}
        actual = targets.detach().cpu().numpy()[known]
        return {"n": int(known.sum()), **self.compare(predicted[known], actual)}

    def _known(self, texts: Sequence[str], targets: Tensor) -> tuple[list[str], np.ndarray]:
        """The texts that have a target, and those targets."""
        known = self.labelled(targets).numpy()
        kept = [text for text, present in zip(texts, known, strict=True) if present]
        return kept, targets.numpy()[known]

    def _parse_all(self, values: Sequence[object | None]) -> list[object | None]:
        parsed = []
        for row, value in enumerate(values, start=1):
            try:
                parsed.append(self.parse(value))
            except ValueError as error:
                raise UserError(
                    f"`{self.column}` should be {error}. Found {shown(value)} in row {row}."
                ) from None
        return parsed
