"""Single-label classification."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from dao.learner.kinds.base import (
    Array,
    Labelled,
    Parser,
    Recoding,
    TaskSettings,
)
from dao.learner.kinds.certainty.probable import Choice
from dao.learner.kinds.classification_settings import ClassificationSettings
from dao.learner.kinds.parts import baselines, rare
from dao.learner.kinds.parts.cells import natural, parse_name, parse_number
from dao.learner.kinds.parts.class_figures import class_figures
from dao.learner.kinds.parts.class_losses import class_weights as weights_of
from dao.learner.kinds.parts.class_losses import focal_loss, loss_notes
from dao.learner.kinds.parts.cuts import class_names, classes_of, thresholds_of
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.parts.targets import refuse_unseen
from dao.learner.kinds.parts.thresholds import Thresholded

__all__ = ["Classification", "ClassificationSettings"]

MISSING = -100  # the index that torch's cross-entropy ignores


class Classification(Choice, Thresholded):
    """One of several classes, learned by cross-entropy or focal loss.

    Args:
        name: Name of the task.
        column: Name the user gave the label column.
        classes: Class names in the order of the outputs.
        class_weights: Weight of each class in the loss, or None for equal weights.
        select_by: The figure that selects a model: accuracy, macro_f1, or rare_f1, the F1 of
            `positive`.
        positive: The class whose own figures are given, or None.
        loss_kind: "ce" or "focal" (`class_losses.focal_loss`).
        focal_gamma: Of the focal loss.
        label_smoothing: Share of the target that is spread over all classes.
        thresholds: Where the classes were cut from a score, what they were cut at.
        show: Keys of the figures that tables show; none for those that suit.

    Example:
        >>> import torch
        >>> task = Classification("cls", "label", ["bad", "good"])
        >>> task.encode(["good", None, "bad"])
        tensor([   1, -100,    0])
        >>> task.predict(torch.tensor([[0.0, 9.0]]))["cls"]
        ['good']
    """

    kind: ClassVar[str] = "classification"
    options: ClassVar[type[TaskSettings]] = ClassificationSettings
    own_figures: ClassVar[tuple[Figure, ...]] = (
        Figure("accuracy", "Accuracy", "share"),
        Figure("macro_f1", "Macro F1", "F1"),
        *(
            Figure(
                f"rare_{key}",
                f"Rare {name}",
                unit,
                shown=False,
                tested=key == "f1",
                of_class="rare",
            )
            for key, name, unit in rare.FIGURES
        ),
        Figure("weighted_f1", "Weighted F1", "F1", shown=False, tested=False),
    )
    row_figure: ClassVar[str] = "accuracy"
    view: ClassVar[Any] = "confusion"

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
        show: Sequence[str] = (),
    ) -> None:
        super().__init__(name, column, outputs=len(classes), show=show)
        self.classes = list(classes)
        self.class_weights = None if class_weights is None else list(class_weights)
        self.loss_kind = loss_kind
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.thresholds = None if thresholds is None else list(thresholds)
        self.select_by = select_by
        self.positive = positive

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Accuracy and macro F1; with select_by=rare_f1 also what is said of the rare class."""
        if self.show or self.select_by != "rare_f1":
            return super().figures
        return tuple(f for f in self.own_figures if f.shown or f.key.startswith("rare_"))

    @property
    def main_figure(self) -> str:  # type: ignore[override]
        """Accuracy, or the F1 of the rare class where it selects: accuracy says little of it."""
        return "rare_f1" if self.select_by == "rare_f1" else "accuracy"

    @property
    def selects_by(self) -> str:
        """Accuracy, macro F1, or the F1 of `positive`."""
        return self.select_by

    @classmethod
    def parser(cls, settings: ClassificationSettings) -> Parser:
        """Class names; with `cut`, scores."""
        return cls.parse if settings.cut is None else parse_number

    @classmethod
    def recoding(
        cls, name: str, settings: ClassificationSettings, training: Sequence[Any]
    ) -> Recoding | None:
        """With `cut`, the class of each score."""
        if settings.cut is None:
            return None
        ends = thresholds_of(name, settings.cut, training, settings.column)
        return Recoding(
            lambda scores: classes_of(scores, ends),
            {"column": settings.column, "thresholds": ends},
        )

    @classmethod
    def fit(
        cls,
        name: str,
        settings: ClassificationSettings,
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """Take the classes and their weights from the training rows.

        Classes are in natural order, those cut from a score from the lowest to the highest.

        Raises:
            UserError: There are fewer than two classes to learn, the validation or test split
                has a class that training never sees, or `positive` is no class.
        """
        column, labels = settings.column, list(values["train"])
        cuts = None if recoding is None else recoding.about["thresholds"]
        classes = natural(list(set(labels))) if cuts is None else class_names(cuts)
        if len(classes) < 2:
            found = ", ".join(classes) or "no label at all"
            raise UserError(
                f"`{column}` should have at least two classes in the train split. Found: {found}. "
                f"Name the label column of {name} with {name}.column=COLUMN."
            )
        refuse_unseen(column, "class", classes, values, removed)
        counts = {label: labels.count(label) for label in classes}
        return cls(
            name,
            column,
            classes,
            weights_of(settings.class_weights, counts, beta=settings.beta),
            select_by=settings.select_by,
            positive=rare.of_interest(name, settings.positive, classes, labels, settings.select_by),
            loss_kind=settings.loss,
            focal_gamma=settings.focal_gamma,
            label_smoothing=settings.label_smoothing,
            thresholds=cuts,
            show=settings.show,
        )

    def unseen_parser(self) -> Parser:
        """Class names; scores where the classes were cut from such."""
        return self.parse if self.thresholds is None else parse_number

    def unseen_values(self, cells: Sequence[Any]) -> list[Any]:
        """The classes; of scores by the thresholds of the training rows."""
        if self.thresholds is None:
            return list(cells)
        return list(classes_of(cells, self.thresholds))

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
        return parse_name(cell)

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn class names into indices, int64, -100 where missing."""
        codes = self._coded(values, self.classes, MISSING, "class")
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
        probabilities = self.scaled(outputs.detach().float()).softmax(dim=-1).cpu()
        for index, label in enumerate(self.classes):
            columns[f"{self.name}_p_{label}"] = probabilities[:, index].tolist()
        return columns

    @property
    def answers(self) -> Sequence[str]:
        """The classes."""
        return self.classes

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Log-probability of each class, (n, 1, classes)."""
        return self.scaled(outputs.double()).log_softmax(dim=-1)[:, None]

    def decide(self, outputs: Tensor) -> Array:
        """Index of the largest output of each row."""
        return outputs.detach().argmax(dim=-1).cpu().numpy()

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """Figures of the decisions, and of the probabilities' order."""
        scores = outputs.detach().double().softmax(dim=-1).cpu().numpy()
        return self._scored(self.decide(outputs), scores, targets)

    def _scored(self, decided: Array, scores: Array, targets: Tensor) -> dict[str, Any]:
        figures = self.measure(decided, targets)
        if not figures["n"]:
            return figures
        known = self.labelled(targets).cpu().numpy()
        actual = targets.detach().cpu().numpy()[known]
        ranking = rare.ranking(scores[known], actual, self.classes)
        return figures | {"ranking": ranking} | self._of_positive(ranking)

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Accuracy, F1, the figures of each class, those of `positive`, the confusion matrix."""
        found = class_figures(predicted, actual, self.classes)
        return found | self._of_positive(found["per_class"])

    def _of_positive(self, by_class: Mapping[str, Any]) -> dict[str, Any]:
        return rare.flat(by_class[self.positive]) if self.positive else {}

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """1 where the class is right, 0 where it is wrong."""
        return np.asarray(predicted == actual, dtype=float)

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The most frequent class, the rare one everywhere, and what `linear` gives."""
        _, classes = self.known(train)
        always = np.eye(self.outputs)[:, None].repeat(len(test[0]), axis=1)
        rows = {"majority class": always[np.bincount(classes).argmax()]}
        if self.select_by == "rare_f1":
            rows[f"always {self.positive}"] = always[self._index]
        rows[baselines.LINEAR] = self._plain(train, test[0])
        return {
            label: self._scored(scores.argmax(1), scores, test[1]) for label, scores in rows.items()
        }

    def linear(self, train: Labelled, texts: Sequence[str]) -> Tensor:
        """Log-probabilities (n, outputs) of n texts by TF-IDF with logistic regression.

        It is balanced where the loss is, and tuned, within `train`, by what selects the model.
        """
        return torch.from_numpy(self._plain(train, texts)).log()

    def _plain(self, train: Labelled, texts: Sequence[str]) -> Array:
        return baselines.classify(
            *self.known(train), texts, outputs=self.outputs,
            balanced=self.class_weights is not None, select_by=self.select_by,
            positive=self._index,
        )  # fmt: skip

    @property
    def _index(self) -> int:
        return self.classes.index(self.positive) if self.positive else 0
