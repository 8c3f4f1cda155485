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

__all__ = ["Choice", "Probable", "rule_of", "without_gaps"]

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

    def rule(self) -> str:
        """What decides, such as `yes from 31 %`, where that is not the largest probability."""
        return ""

    def scaled_share(self, share: float) -> float:
        """What becomes of the probability of one logit."""
        return float(self.scaled(torch.tensor(share, dtype=torch.float64).logit()).sigmoid())

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


def rule_of(task: Task) -> str:
    """The `rule` of a task, which a kind without probabilities lacks."""
    return task.rule() if isinstance(task, Probable) else ""


class Choice(Probable, Conformal):
    r"""A kind of which every text has one class, with sets round the class that is decided.

    With d the decision that is served (`decide`),

    .. math:: s(x, d) = 0, \qquad s(x, y) = 1 - p(y | x) \text{ for every other } y,

    so the set of a row holds d and the classes whose probability is at least 1 - limit. This is
    the rule of Sadinle, Lei and Wasserman 2019 (arXiv 1609.00451), to which d is added. Classes
    with an order have the least of :math:`1 - p(k)` over the k at y and beyond y, seen from d, in
    place of :math:`1 - p(y)`, so that their sets have no gap.

    No score is above 1 - p(y), the rule of earlier revisions. The limits of runs that kept scores
    of that rule are therefore large enough.
    """

    region_size: ClassVar[Literal["classes", "width"]] = "classes"
    ordered: ClassVar[bool] = False
    """Whether the classes have an order, from the first to the last."""

    @property
    @abstractmethod
    def answers(self) -> Sequence[str]:
        """Names of the classes, in the order of their probabilities."""

    def nonconformity(self, outputs: Tensor, targets: Tensor) -> Array:
        """How little the true class fits, (n,); 0 where it was decided."""
        places = self.places(targets).cpu().numpy()
        return np.take_along_axis(self._scores(outputs), places, axis=1)[:, 0]

    def region(self, outputs: Tensor, limit: float) -> dict[str, list[float] | list[str]]:
        """The classes in one cell of `NAME_set`, in the order of the probability columns."""
        names = np.array(self.answers, dtype=object)
        inside = self._scores(outputs) <= limit
        return {f"{self.name}{SET}": [in_one_cell(names[row]) for row in inside]}

    def region_sizes(self, outputs: Tensor, limit: float) -> Array:
        """How many classes each set has, (n,)."""
        return np.asarray((self._scores(outputs) <= limit).sum(axis=1))

    def _scores(self, outputs: Tensor) -> Array:
        """The nonconformity of every class of each row, (n, classes)."""
        lacking = 1 - self.log_probabilities(outputs.detach())[:, 0].exp().cpu().numpy()
        decided = np.asarray(self.decide(outputs), dtype=int)[:, None]
        found = without_gaps(lacking, decided) if self.ordered else lacking
        np.put_along_axis(found, decided, 0.0, axis=1)
        return found


def without_gaps(scores: Array, decided: Array) -> Array:
    """The least score at each class and beyond it, seen from the decided one.

    Args:
        scores: of ordered classes, (n, classes).
        decided: the place of the decided class, (n, 1).

    Example:
        >>> without_gaps(np.array([[0.4, 0.9, 0.7, 0.5]]), np.array([[1]])).tolist()
        [[0.4, 0.5, 0.5, 0.5]]
    """
    below = np.minimum.accumulate(scores, axis=1)
    above = np.minimum.accumulate(scores[:, ::-1], axis=1)[:, ::-1]
    return np.where(np.arange(scores.shape[1]) < decided, below, above)
