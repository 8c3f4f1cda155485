"""Classification into levels that have an order, such as one to five stars."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from dao.learner.basics.wording import count, listed, shown
from dao.learner.kinds.base import SPLITS, Array, Labelled, Recoding, TaskSettings
from dao.learner.kinds.certainty.probable import Choice
from dao.learner.kinds.parts import baselines
from dao.learner.kinds.parts.cells import named, natural, parse_name, parse_number
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.parts.targets import refuse_unseen

__all__ = ["Ordinal", "OrdinalSettings"]

MISSING = -1


class OrdinalSettings(TaskSettings):
    """Options of a task with one of several levels per text."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column", "levels"})

    decide_scores: ClassVar[frozenset[str]] = TaskSettings.decide_scores | {"select_by", "levels"}

    kind: Literal["ordinal"] = "ordinal"
    levels: tuple[str, ...] = ()
    """From the lowest to the highest; empty: the numbers in the training rows, ascending."""
    select_by: Literal["qwk", "accuracy"] = "qwk"
    """Figure on the validation split by which the best model is kept."""

    @field_validator("levels")
    @classmethod
    def _distinct(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(map(named, levels))
        if names and (len(names) < 2 or len(set(names)) < len(names) or "" in names):
            raise ValueError("should be two or more different levels, from the lowest on")
        return names


class Ordinal(Choice):
    r"""A level, learned by K - 1 logits of "above level j, given that it is at least level j".

    This is CORN (Shi, Cao and Raschka 2021, arXiv 2111.08851). With :math:`f_j` the logits,

    .. math:: P(y > j) = \prod_{i \le j} \sigma(f_i)

    falls with j by construction, so the probabilities of the levels are never negative. The loss is
    the mean binary cross-entropy over all pairs of a row and a j that the row reaches: row i with
    :math:`y_i \ge j` teaches whether :math:`y_i > j`. The prediction is the number of j with
    :math:`P(y > j) > 1/2`, which is the median level.

    Args:
        name: Name of the task.
        column: Name the user gave the column.
        levels: From the lowest to the highest.
        select_by: The figure that selects a model.
        show: Keys of the figures that tables show; none for those that suit.

    Example:
        >>> task = Ordinal("stars", "stars", ["1", "2", "3"])
        >>> task.encode([3, None, 1])
        tensor([ 2, -1,  0])
        >>> task.predict(torch.tensor([[9.0, -9.0]]))["stars"]
        ['2']
    """

    kind: ClassVar[str] = "ordinal"
    options: ClassVar[type[TaskSettings]] = OrdinalSettings
    own_figures: ClassVar[tuple[Figure, ...]] = (
        Figure("qwk", "Quadratic kappa", "agreement"),
        Figure("mae_levels", "MAE", "levels", "lower"),
        Figure("accuracy", "Accuracy", "share", tested=False),
    )
    main_figure = "qwk"
    row_figure: ClassVar[str] = "mae_levels"
    row_better: ClassVar[Any] = "lower"
    view: ClassVar[Any] = "confusion"
    ordered: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        column: str,
        levels: Sequence[str],
        select_by: str = "qwk",
        show: Sequence[str] = (),
    ) -> None:
        super().__init__(name, column, outputs=len(levels) - 1, show=show)
        self.levels = list(levels)
        self.select_by = select_by

    @property
    def selects_by(self) -> str:
        """Quadratic weighted kappa, or accuracy."""
        return self.select_by

    @staticmethod
    def parse(cell: object) -> str | None:
        """Turn a cell into the name of a level; "1", 1 and 1.0 are the same level."""
        return parse_name(cell)

    @classmethod
    def fit(
        cls,
        name: str,
        settings: OrdinalSettings,
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """Take the levels from the settings, or from the training rows.

        Raises:
            UserError: There are fewer than two levels; their order is not known; a level has no
                training row; a row holds something else.
        """
        column, known = settings.column, set(values["train"])
        levels = list(settings.levels) or _ascending(name, column, known)
        if len(levels) < 2:
            raise UserError(
                f"`{column}` should have at least two levels in the train split. Found: "
                f"{listed(levels) or 'none'}. Name the column of {name} with {name}.column=COLUMN."
            )
        if settings.levels:
            _refuse_others(name, column, levels, values)
        else:
            refuse_unseen(column, "level", levels, values, removed)
        if absent := [level for level in levels if level not in known]:
            raise UserError(
                f"`{column}` should have training rows of every level of {name}. Found none of "
                f"{listed(absent)}. Add some, or leave the level out of {name}.levels."
            )
        return cls(name, column, levels, settings.select_by, settings.show)

    def notes(self) -> list[str]:
        """The order of the levels."""
        return [f"{self.name}: levels {' < '.join(self.levels)}"]

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn levels into their places from 0, int64, -1 where missing."""
        codes = self._coded(values, self.levels, MISSING, "level")
        return torch.tensor(codes, dtype=torch.int64)

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the targets that are a level."""
        return targets != MISSING

    def row_weights(self, targets: Tensor) -> Tensor:
        """How many logits the row teaches: one more than its level, but for the highest."""
        return (targets + 1).clamp(min=0, max=self.outputs).double()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy of the logits that the rows teach."""
        places = torch.arange(self.outputs, device=outputs.device)
        taught = targets[:, None] >= places
        above = (targets[:, None] > places).float()
        terms = functional.binary_cross_entropy_with_logits(
            outputs.float(), above, reduction="none"
        )
        return (terms * taught).sum() / taught.sum()

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The level, and the probability of each in `NAME_p_LEVEL`."""
        names = [self.levels[place] for place in self.decide(outputs)]
        above = self._above(self.scaled(outputs))
        ends = np.ones((len(above), 1)), np.zeros((len(above), 1))
        each = np.concatenate([ends[0], above], 1) - np.concatenate([above, ends[1]], 1)
        columns = {f"{self.name}_p_{level}": each[:, i].tolist() for i, level in
                   enumerate(self.levels)}  # fmt: skip
        return {self.name: names} | columns

    @property
    def answers(self) -> Sequence[str]:
        """The levels."""
        return self.levels

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        r"""Log-probability of each level, (n, 1, levels).

        With :math:`f_j` over the temperature, level j has

        .. math:: \log P(y = j) = \sum_{i < j} \log \sigma(f_i) + \log(1 - \sigma(f_j)),

        of which the highest level lacks the last term.
        """
        logits = self.scaled(outputs.double())
        none = logits.new_zeros(len(logits), 1)
        reached = functional.logsigmoid(logits).cumsum(dim=1)
        stays = torch.cat([functional.logsigmoid(-logits), none], dim=1)
        return (torch.cat([none, reached], dim=1) + stays)[:, None]

    def decide(self, outputs: Tensor) -> Array:
        """The median level before probabilities are scaled: how many it is probably above."""
        return np.asarray((self._above(outputs) > 0.5).sum(axis=1))

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Accuracy, mean distance in levels, quadratic weighted kappa, confusion matrix.

        Kappa is None where targets are all one level: it is undefined if the predictions are that
        level too, and else 0 whatever they are.
        """
        from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix

        places = list(range(len(self.levels)))
        varied = len(set(actual.tolist())) > 1
        kappa = (
            cohen_kappa_score(actual, predicted, labels=places, weights="quadratic")
            if varied
            else None
        )
        return {
            "accuracy": float(accuracy_score(actual, predicted)),
            "mae_levels": float(np.abs(predicted - actual).mean()),
            "qwk": None if kappa is None else float(kappa),
            "classes": self.levels,
            "confusion_matrix": confusion_matrix(actual, predicted, labels=places).tolist(),
        }

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """How many levels the prediction is off."""
        return np.asarray(np.abs(predicted - actual), dtype=float)

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The majority and the median level, TF-IDF with logistic and with ridge regression.

        The C of logistic regression is chosen by what selects the model, the penalty of ridge
        regression by its squared error.
        """
        texts, places = self.known(train)
        number, highest = len(test[0]), len(self.levels) - 1
        linear = baselines.classify(
            texts, places, test[0], outputs=len(self.levels), select_by=self.select_by
        )
        ridge = np.rint(baselines.regress(texts, places.astype(float), test[0]))
        rows = {
            "majority class": np.full(number, np.bincount(places).argmax()),
            "median level": np.full(number, int(np.median(places))),
            baselines.LINEAR: linear.argmax(1),
            "TF-IDF + ridge regression": ridge.clip(0, highest).astype(int),
        }
        return {name: self.measure(decided, test[1]) for name, decided in rows.items()}

    def _above(self, outputs: Tensor) -> Array:
        """Probability of being above each level but the highest, (n, K - 1), falling."""
        return torch.sigmoid(outputs.detach().double()).cumprod(dim=1).cpu().numpy()


def _refuse_others(
    name: str, column: str, levels: Sequence[str], values: Mapping[str, Sequence[str]]
) -> None:
    """Refuse rows beside the levels that were named."""
    for split in SPLITS:
        for value in natural(list(set(values[split]) - set(levels))):
            rows = count(list(values[split]).count(value))
            raise UserError(
                f"`{column}` should be one of the levels {listed(list(levels))}. Found "
                f"{shown(value)} in the {split} split ({rows}). Correct these rows, or "
                f"name the level in {name}.levels."
            )


def _ascending(name: str, column: str, known: Collection[str]) -> list[str]:
    """The levels in the order of their numbers.

    Raises:
        UserError: They are no numbers, or two are one number.
    """
    found = natural(list(known))
    try:
        numbers = list(map(parse_number, found))
    except ValueError:
        raise UserError(
            f"`{column}` should hold numbers for the ordinal task {name}, or the order of its "
            f"levels should be given. Found {listed(found)}. Give the order with "
            f"{name}.levels=[LOWEST,...,HIGHEST]."
        ) from None
    for (one, other), (a, b) in zip(pairwise(found), pairwise(numbers), strict=True):
        if a == b:
            raise UserError(
                f"`{column}` should have one name for each level. Found {one} and {other}, which "
                f"are one number. Write it in one way, or give the order with "
                f"{name}.levels=[LOWEST,...,HIGHEST]."
            )
    return found
