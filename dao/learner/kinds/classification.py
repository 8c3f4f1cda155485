"""Single-label classification."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from dao.learner.basics.wording import count
from dao.learner.kinds.base import (
    SPLITS,
    Array,
    Labelled,
    Parser,
    Recoding,
    Task,
    TaskSettings,
    left_train,
)
from dao.learner.kinds.parts import baselines, rare
from dao.learner.kinds.parts.cells import named, natural, parse_name
from dao.learner.kinds.parts.class_losses import class_weights as weights_of
from dao.learner.kinds.parts.class_losses import focal_loss, loss_notes
from dao.learner.kinds.parts.cuts import class_names, classes_of, thresholds_of
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.regression import parse_number

__all__ = ["Classification", "ClassificationSettings"]

MISSING = -100  # the index that torch's cross-entropy ignores
EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")  # which YAML 1.1 takes for text
LINEAR = "TF-IDF + logistic regression"


class ClassificationSettings(TaskSettings):
    """Options of a task with one of several classes per text."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column", "positive", "label_column"})

    kind: Literal["classification"] = "classification"
    select_by: Literal["accuracy", "macro_f1", "rare_f1"] = "accuracy"
    """Figure on the validation split by which the best model is kept; `rare_f1`: F1 of
    `positive`."""
    positive: str = ""
    """The class whose own figures are given; empty: the rarest in training, if there are two
    classes, it has less than a fifth of the rows, or it is selected by."""
    loss: Literal["ce", "focal"] = "ce"
    """Cross-entropy, or focal loss (arXiv 1708.02002)."""
    focal_gamma: float = Field(2.0, ge=0)
    """Of `focal`: the loss of a row is multiplied by (1 - p of its true class)^gamma."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """`balanced`: inverse to a class's rows; `effective`: to their effective number (arXiv
    1901.05555)."""
    beta: float = Field(0.999, ge=0, lt=1)
    """Of `effective`: 0 weighs all alike, towards 1 the weights become inverse to the rows."""
    cut: int | tuple[float, ...] | None = None
    """Make the classes out of a score, which then is what `column` holds: a number of classes of
    equal size in the training rows, or ascending thresholds."""
    label_column: str = ""
    """With `cut`: a column that the data may have for these classes, which is not read."""

    @field_validator("positive")
    @classmethod
    def _named(cls, positive: str) -> str:
        return named(positive)

    @field_validator("cut", mode="before")
    @classmethod
    def _cuts(cls, cut: object) -> object:
        if cut is None or (isinstance(cut, int) and not isinstance(cut, bool) and cut >= 2):
            return cut
        given = list(cut) if isinstance(cut, list | tuple) else [cut]
        given = [float(e) if isinstance(e, str) and EXPONENT.fullmatch(e) else e for e in given]
        ends = [float(e) for e in given if isinstance(e, int | float) and not isinstance(e, bool)]
        # An int by itself is a number of classes that is none.
        if isinstance(cut, int) or len(ends) < len(given) or not ends or ends != sorted(set(ends)):
            raise ValueError("should be a number of classes from 2 on, or ascending thresholds")
        return tuple(ends)


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
            Figure(f"rare_{key}", f"Rare {name}", unit, shown=False, tested=key == "f1")
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
        for split in SPLITS[1:]:
            _refuse_unseen(column, classes, list(values[split]), split, removed)
        counts = {label: labels.count(label) for label in classes}
        return cls(
            name,
            column,
            classes,
            weights_of(settings.class_weights, counts, beta=settings.beta),
            select_by=settings.select_by,
            positive=_positive(name, settings.positive, classes, labels, settings.select_by),
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
        figures["ranking"] = rare.ranking(scores[known], actual, self.classes)
        return figures | (rare.flat(figures, self.positive) if self.positive else {})

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Accuracy, F1, the figures of each class, those of `positive`, the confusion matrix.

        The averages run over the classes that occur among predictions or targets, as
        scikit-learn's do; row i, column j of the confusion matrix counts class i called j.
        """
        from sklearn.metrics import (
            accuracy_score,
            confusion_matrix,
            f1_score,
            precision_recall_fscore_support,
        )

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

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """1 where the class is right, 0 where it is wrong."""
        return np.asarray(predicted == actual, dtype=float)

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The most frequent class, the rare one everywhere, and what `linear` gives."""
        _, classes = self.known(train)
        count, index = len(test[0]), self._index
        rows = {"majority class": self._constant(int(np.bincount(classes).argmax()), count)}
        if self.select_by == "rare_f1":
            rows[f"always {self.positive}"] = self._constant(index, count)
        rows[LINEAR] = self._plain(train, test[0])
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

    def _constant(self, index: int, count: int) -> Array:
        return np.tile(np.eye(self.outputs)[index], (count, 1))


def _refuse_unseen(
    column: str, classes: list[str], labels: list[Any], split: str, removed: int
) -> None:
    for label in sorted(set(labels) - set(classes)):
        raise UserError(
            f"`{column}` should have every class in the train split. Found {label!r} only in the "
            f"{split} split ({count(labels.count(label))}{left_train(removed)}). Add training "
            f"rows of it, or remove it."
        )


def _positive(
    name: str, wanted: str, classes: list[str], labels: list[Any], select_by: str
) -> str | None:
    if wanted and wanted not in classes:
        raise UserError(
            f"`{name}.positive` should be one of the classes {', '.join(classes)}. Found "
            f"{wanted!r}. Correct it, or leave it out for the rarest."
        )
    least, share = rare.rarest(labels)
    of_interest = len(classes) == 2 or share < rare.RARE or select_by == "rare_f1"
    return wanted or (least if of_interest else None)
