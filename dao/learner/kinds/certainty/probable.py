"""Kinds that give probabilities, which one temperature per task can scale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from dao.learner.kinds.base import Array, Task
from dao.learner.kinds.certainty.regions import SET, Conformal, in_one_cell

__all__ = ["Choice", "Probable"]

TEMPERATURE = "temperature"


class Probable(Task):
    r"""A kind whose outputs z give probabilities of :math:`z / T`.

    T is the temperature of Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599), one number per
    task: above 1 it makes probabilities more even, below 1 more extreme. It acts on the columns of
    probabilities and on sets of classes. Decisions and figures are made of z itself, so that they
    are the same at every temperature.

    Attributes:
        temperature: 1 where nothing is scaled, as in runs of earlier revisions.
    """

    temperature: float = 1.0

    @abstractmethod
    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Log-probability of every answer at the temperature, float64: (n, questions, answers).

        A row of most kinds is one question; `multilabel` asks one for each label.

        Args:
            outputs: Of the model, (n, width).
        """

    @staticmethod
    def places(targets: Tensor) -> Tensor:
        """The place of the true answer to each question, int64 (n, questions).

        Args:
            targets: Encoded, all present.
        """
        return targets.reshape(len(targets), -1).long()

    def evidence(self, outputs: Tensor, decided: Array) -> Tensor:
        """The log-probability of the decisions, of all labels together, at the temperature."""
        chances = self.log_probabilities(outputs)
        places = torch.as_tensor(decided, device=chances.device).reshape(len(decided), -1)
        places = places.expand(len(chances), -1)[..., None]
        return chances.gather(-1, places).flatten(1).sum(dim=1)

    def at(self, temperature: float) -> Self:
        """This task with another temperature."""
        return self.from_dict({**self.to_dict(), TEMPERATURE: temperature})

    def scaled_threshold(self) -> float | None:
        """The scaled probability that a row has at its threshold; None for a kind without one."""
        return None

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild the task that `to_dict` described; without a temperature it has that of 1."""
        task = super().from_dict({k: v for k, v in state.items() if k != TEMPERATURE})
        if (found := state.get(TEMPERATURE, 1.0)) != 1.0:
            task.temperature = found
        return task

    def scaled(self, outputs: Tensor) -> Tensor:
        """The outputs over the temperature; the outputs themselves where that is 1."""
        return outputs if self.temperature == 1.0 else outputs / self.temperature


class Choice(Probable, Conformal):
    """A kind of which every text has one class: s(x, y) = 1 - p(y | x).

    The set of a row holds the classes whose probability is at least 1 - limit (Sadinle, Lei and
    Wasserman 2019, arXiv 1609.00451): of all sets with the coverage, the smallest on average. It
    can be empty, where every class is too improbable.
    """

    region_size: ClassVar[Literal["classes", "width"]] = "classes"

    @property
    @abstractmethod
    def answers(self) -> Sequence[str]:
        """Names of the classes, in the order of their probabilities."""

    def nonconformity(self, outputs: Tensor, targets: Tensor) -> Array:
        """What the true class lacks of certainty, (n,)."""
        places = self.places(targets).cpu().numpy()
        return np.take_along_axis(self._lacking(outputs), places, axis=1)[:, 0]

    def region(self, outputs: Tensor, limit: float) -> dict[str, list[float] | list[str]]:
        """The classes in one cell of `NAME_set`, in the order of the probability columns."""
        names = np.array(self.answers, dtype=object)
        inside = self._lacking(outputs) <= limit
        return {f"{self.name}{SET}": [in_one_cell(names[row]) for row in inside]}

    def region_sizes(self, outputs: Tensor, limit: float) -> Array:
        """How many classes each set has, (n,)."""
        return np.asarray((self._lacking(outputs) <= limit).sum(axis=1))

    def _lacking(self, outputs: Tensor) -> Array:
        return 1 - self.log_probabilities(outputs.detach())[:, 0].exp().cpu().numpy()
