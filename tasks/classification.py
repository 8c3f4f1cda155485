"""Single-label classification."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from tasks import baselines, rare
from tasks.base import Task
from tasks.class_losses import class_weights as weights_of
from tasks.class_losses import focal_loss, loss_notes
from tasks.cuts import class_names
from tasks.table import SPLITS, Table, count

__all__ = ["Classification"]

MISSING = -100  # the index that torch's cross-entropy ignores
SELECTORS = ("accuracy", "macro_f1", "rare_f1")
LINEAR = "TF-IDF + logistic regression"
INTEGER_LIKE = re.compile(r"-?\d+\.0+")


class Classification(Task):
    """One of several classes, learned by cross-entropy or focal loss.

    Args:
        name: Name of the task.
        column: Name the user gave the label column.
        classes: Class names in the order of the outputs.
        class_weights: Weight of each class in the loss, or None for equal weights.
        select_by: The figure that selects a model: accuracy, macro_f1, or rare_f1, the F1 of
            `positive`.
        positive: The class whose own figures are given, or None.
        loss_kind: "ce" or "focal" (`tasks.class_losses.focal_loss`).
        focal_gamma: Of the focal loss.
        label_smoothing: Share of the target that is spread over all classes.
        thresholds: Where the classes were cut from a score, what they were cut at.

    Example:
        >>> import torch
        >>> task = Classification("cls", "label", ["bad", "good"])
        >>> task.encode(["good", None, "bad"])
        tensor([   1, -100,    0])
        >>> task.predict(torch.tensor([[0.0, 9.0]]))["cls"]
        ['good']
    """

    def __init__(
        self,
        name: str,
        column: str,
        classes: Sequence[str],
        class_weights: Sequence[float] | None = None,
        select_by: str = "accuracy",
        positive: str | None = None,
        loss_kind: str = "ce",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(name, column, outputs=len(classes))
        self.classes = list(classes)
        self.class_weights = None if class_weights is None else list(class_weights)
        self.loss_kind = loss_kind
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.thresholds = None if thresholds is None else list(thresholds)
        self.select_by = select_by
        self.positive = positive

    @property
    def headline(self) -> tuple[tuple[str, str], ...]:
        """Accuracy and macro F1; with select_by=rare_f1 also what is said of the rare class."""
        own = rare.FIGURES if self.select_by == "rare_f1" else ()
        names = ("accuracy", "macro_f1", *(f"rare_{name}" for name in own))
        return tuple((name, "↑") for name in names)

    @classmethod
    def fit(
        cls,
        name: str,
        table: Table,
        *,
        class_weights: str = "none",
        beta: float = 0.999,
        loss: str = "ce",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        select_by: str = "accuracy",
        positive: str = "",
    ) -> Self:
        """Take the classes and their weights from the training rows.

        Classes are in alphabetical order, those cut from a score from the lowest to the highest.

        Args:
            name: Name of the task and of its column in the table.
            table: Rows of every split.
            class_weights: "none", "balanced" or "effective"; see
                `tasks.class_losses.class_weights`.
            beta: Of "effective".
            loss: "ce" or "focal".
            focal_gamma: Of the focal loss.
            label_smoothing: Share of the target that is spread over all classes.
            select_by: "accuracy", "macro_f1" or "rare_f1".
            positive: The class whose own figures are given; empty: the rarest, if there are two
                classes, it has less than a fifth of the rows, or it is selected by.

        Raises:
            UserError: There are fewer than two classes to learn, the validation or test split
                has a class that training never sees, or `positive` is no class.
        """
        column = table.columns.targets[name]
        labels = table.values(name, "train")
        cuts = table.thresholds
        classes = sorted(set(labels)) if cuts is None else class_names(cuts)
        if len(classes) < 2:
            found = ", ".join(classes) or "no label at all"
            raise UserError(
                f"`{column}` should have at least two classes in the train split. Found: {found}. "
                f"Name the label column with data.{name}=COLUMN."
            )
        for split in SPLITS[1:]:
            _refuse_unseen(column, classes, table.values(name, split), split, table.report)
        counts = {label: labels.count(label) for label in classes}
        return cls(
            name,
            column,
            classes,
            weights_of(class_weights, counts, beta=beta),
            select_by=select_by,
            positive=_positive(name, positive, classes, labels, select_by),
            loss_kind=loss,
            focal_gamma=focal_gamma,
            label_smoothing=label_smoothing,
            thresholds=cuts,
        )

    def notes(self) -> list[str]:
        """The loss and its weights, where it is not plain cross-entropy, and what is odd."""
        focal = f"focal, gamma {self.focal_gamma:g}"
        described = focal if self.loss_kind == "focal" else "cross-entropy"
        if self.label_smoothing:
            described += f", label smoothing {self.label_smoothing:g}"
        return loss_notes(self.name, self.classes, self.class_weights, described)

    @staticmethod
    def parse(cell: object) -> str | None:
        """Turn a cell into a class name; "1", 1 and 1.0 are the same class."""
        if cell is None:
            return None
        text = str(cell).strip()
        if text.lower() == "nan" or isinstance(cell, list | dict | bytes):
            raise ValueError("a class name, or empty where it is missing")
        if INTEGER_LIKE.fullmatch(text):
            text = text.split(".")[0]
        return text or None

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn class names into indices, int64, -100 where missing."""
        index = {None: MISSING} | {name: i for i, name in enumerate(self.classes)}
        codes = []
        for row, value in enumerate(self._parse_all(values), start=1):
            if value not in index:
                raise UserError(
                    f"`{self.column}` should be one of {', '.join(self.classes)}. "
                    f"Found {value!r} in row {row}. Correct it, or train with that class."
                )
            codes.append(index[value])
        return torch.tensor(codes, dtype=torch.int64)

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the targets that are a class."""
        return targets != MISSING

    def row_weights(self, targets: Tensor) -> Tensor:
        """The weight of each row's class, 1 without class weights, 0 where the class is missing."""
        known = super().row_weights(targets)
        if self.class_weights is None:
            return known
        return known * known.new_tensor(self.class_weights)[targets.clamp(min=0)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy or focal loss; with class weights the weighted mean over the rows."""
        outputs = outputs.float()
        weight = None if self.class_weights is None else outputs.new_tensor(self.class_weights)
        if self.loss_kind == "focal":
            return focal_loss(
                outputs, targets, gamma=self.focal_gamma, weight=weight,
                label_smoothing=self.label_smoothing,
            )  # fmt: skip
        return functional.cross_entropy(
            outputs, targets, weight=weight, label_smoothing=self.label_smoothing
        )

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The most likely class, and the probability of each in `NAME_p_CLASS`."""
        columns: dict[str, list[Any]] = {
            self.name: [self.classes[index] for index in self.decide(outputs)]
        }
        probabilities = outputs.detach().float().softmax(dim=-1).cpu()
        for index, label in enumerate(self.classes):
            columns[f"{self.name}_p_{label}"] = probabilities[:, index].tolist()
        return columns

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Index of the largest output of each row."""
        return outputs.detach().argmax(dim=-1).cpu().numpy()

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """Figures of the decisions, and of the probabilities' order."""
        scores = outputs.detach().double().softmax(dim=-1).cpu().numpy()
        return self._scored(self.decide(outputs), scores, targets)

    def _scored(self, decided: np.ndarray, scores: np.ndarray, targets: Tensor) -> dict[str, Any]:
        figures = self.measure(decided, targets)
        if not figures["n"]:
            return figures
        known = self.labelled(targets).cpu().numpy()
        actual = targets.detach().cpu().numpy()[known]
        figures["ranking"] = rare.ranking(scores[known], actual, self.classes)
        return figures | (rare.flat(figures, self.positive) if self.positive else {})

    def compare(self, predicted: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
        """Accuracy, F1, the figures of each class, those of `positive`, the confusion matrix.

        The averages run over the classes that occur among predictions or targets, as
        scikit-learn's do; row i, column j of the confusion matrix counts class i called j.
        """
        indices = list(range(self.outputs))
        figures = precision_recall_fscore_support(
            actual, predicted, labels=indices, zero_division=0
        )
        names = ("precision", "recall", "f1", "support")
        found = {
            "accuracy": float(accuracy_score(actual, predicted)),
            "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
            "weighted_f1": float(f1_score(actual, predicted, average="weighted", zero_division=0)),
            "per_class": {
                label: {key: column[i].item() for key, column in zip(names, figures, strict=True)}
                for i, label in enumerate(self.classes)
            },
            "classes": self.classes,
            "confusion_matrix": confusion_matrix(actual, predicted, labels=indices).tolist(),
        }
        return found | (rare.flat(found, self.positive) if self.positive else {})

    def score(self, metrics: Mapping[str, Any]) -> float | None:
        """The figure to select by; None without rows, or without any of the class it is about."""
        return metrics.get(self.select_by)

    def baselines(
        self, train: tuple[Sequence[str], Tensor], test: tuple[Sequence[str], Tensor]
    ) -> dict[str, dict[str, Any]]:
        """The most frequent class, the rare one everywhere, and what `linear` gives."""
        _, classes = self._known(*train)
        count, index = len(test[0]), self._index
        rows = {"majority class": self._constant(np.bincount(classes).argmax(), count)}
        if self.select_by == "rare_f1":
            rows[f"always {self.positive}"] = self._constant(index, count)
        rows[LINEAR] = self.linear(train, test[0])
        return {
            label: self._scored(scores.argmax(1), scores, test[1]) for label, scores in rows.items()
        }

    def linear(self, train: tuple[Sequence[str], Tensor], texts: Sequence[str]) -> np.ndarray:
        """Class probabilities (n, outputs) of n texts by TF-IDF with logistic regression.

        It is balanced where the loss is, and tuned, within `train`, by what selects the model.
        """
        return baselines.classify(
            *self._known(*train), texts, outputs=self.outputs,
            balanced=self.class_weights is not None, select_by=self.select_by,
            positive=self._index,
        )  # fmt: skip

    @property
    def _index(self) -> int:
        return self.classes.index(self.positive) if self.positive else 0

    def _constant(self, index: int, count: int) -> np.ndarray:
        return np.tile(np.eye(self.outputs)[index], (count, 1))


def _refuse_unseen(
    column: str, classes: list[str], labels: list[Any], split: str, report: Mapping[str, Any]
) -> None:
    removed = report.get("duplicates", {}).get("rows removed from train", 0)
    said = f"; {count(removed)} left train, their texts being in validation or test as well"
    for label in sorted(set(labels) - set(classes)):
        raise UserError(
            f"`{column}` should have every class in the train split. Found {label!r} only in the "
            f"{split} split ({count(labels.count(label))}{said if removed else ''}). Add training "
            f"rows of it, or remove it."
        )


def _positive(
    name: str, wanted: str, classes: list[str], labels: list[Any], select_by: str
) -> str | None:
    if select_by not in SELECTORS:
        raise UserError(
            f"`{name}.select_by` should be one of {', '.join(SELECTORS)}. Found {select_by!r}."
        )
    if wanted and wanted not in classes:
        raise UserError(
            f"`{name}.positive` should be one of the classes {', '.join(classes)}. Found "
            f"{wanted!r}. Correct it, or leave it out for the rarest."
        )
    least, share = rare.rarest(labels)
    of_interest = len(classes) == 2 or share < rare.RARE or select_by == "rare_f1"
    return wanted or (least if of_interest else None)
