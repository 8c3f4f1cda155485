"""Regions of answers by split-conformal prediction: sets of classes, and intervals of numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from dao.learner.kinds.base import Array, Task

__all__ = ["HIGH", "LOW", "SET", "Conformal", "Interval", "in_one_cell"]

LOW, HIGH, SET = "_low", "_high", "_set"
"""Ends of the columns with regions."""


class Conformal(ABC):
    """A kind whose answers can be given as a region that holds the truth with a chosen frequency.

    Split-conformal prediction (Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023, arXiv
    2107.07511): each possible answer y of a row has a nonconformity s(x, y), and the region of the
    row is every y with s(x, y) <= limit. `calibration.conformal.limit_of` takes the limit from the
    nonconformities of calibration rows.
    """

    region_size: ClassVar[Literal["classes", "width"]]
    """What the size of a region is: how many classes it has, or how wide it is."""

    @abstractmethod
    def nonconformity(self, outputs: Tensor, targets: Tensor) -> Array:
        """How little each target fits the outputs (n, width) of its row, (n,) float64.

        Args:
            outputs: Of the model.
            targets: Encoded, all present.
        """

    @abstractmethod
    def region(self, outputs: Tensor, limit: float) -> dict[str, list[float] | list[str]]:
        """Columns with the regions of the rows of outputs (n, width)."""

    @abstractmethod
    def region_sizes(self, outputs: Tensor, limit: float) -> Array:
        """The size of each row's region, (n,)."""

    def unsure(self, outputs: Tensor, limit: float) -> Array | None:
        """Which rows have a set of several classes, (n,); None where there are no sets."""
        if self.region_size != "classes":
            return None
        return np.asarray(self.region_sizes(outputs, limit) > 1)


class Interval(Task, Conformal):
    """Intervals around a predicted number: s(x, y) = |y - prediction|, in the unit of the data.

    All intervals of a run have the same width, twice the limit, so none of them says that a single
    row is less sure than another.
    """

    region_size: ClassVar[Literal["classes", "width"]] = "width"

    def nonconformity(self, outputs: Tensor, targets: Tensor) -> Array:
        """Absolute errors, (n,)."""
        actual = targets.detach().cpu().double().numpy()
        return np.asarray(np.abs(actual - self.decide(outputs)))

    def region(self, outputs: Tensor, limit: float) -> dict[str, list[float] | list[str]]:
        """The ends of the intervals in `NAME_low` and `NAME_high`."""
        middle = self.decide(outputs)
        ends = {LOW: middle - limit, HIGH: middle + limit}
        return {f"{self.name}{end}": numbers.tolist() for end, numbers in ends.items()}

    def region_sizes(self, outputs: Tensor, limit: float) -> Array:
        """Twice the limit for every row."""
        return np.full(len(outputs), 2 * limit)


def in_one_cell(classes: Iterable[str]) -> str:
    r"""Classes as one cell, `|` between them; a `|` of a class's own name gets a backslash.

    Example:
        >>> in_one_cell(["up", "flat"]), in_one_cell([]), in_one_cell(["a|b"])
        ('up|flat', '', 'a\\|b')
    """
    return "|".join(name.replace("|", "\\|") for name in classes)
