"""Classification of two classes of which one is meant: yes or no, with a threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from dao.learner.basics.numbers import percent
from dao.learner.basics.wording import listed
from dao.learner.kinds.base import Array, Labelled, Recoding, TaskSettings
from dao.learner.kinds.certainty.probable import Choice
from dao.learner.kinds.guessing.positive import positive_class
from dao.learner.kinds.parts import baselines
from dao.learner.kinds.parts.cells import named, natural, parse_name, parse_number
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.parts.targets import refuse_unseen
from dao.learner.kinds.parts.thresholds import Thresholded, chosen_threshold, probabilities

__all__ = ["Binary", "BinarySettings"]


class BinarySettings(TaskSettings):
    """Options of a task with two classes, one of which is the positive one."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column", "positive"})

    decide_scores: ClassVar[frozenset[str]] = TaskSettings.decide_scores | {"select_by", "positive"}

    kind: Literal["binary"] = "binary"
    positive: str = ""
    """The class that is meant; empty: the positive one of 1/0, 1/-1, yes/no, true/false, y/n or
    t/f, or else the one with fewer training rows."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: rows of a class count by the inverse of its size."""
    select_by: Literal["pr_auc", "roc_auc", "f1", "accuracy"] = "pr_auc"
    """Figure on the validation split by which the best model is kept."""
    threshold: float | Literal["validation"] = "validation"
    """Probability from which on a text is called positive; `validation`: the one with the best F1
    on the validation rows, chosen once the model is selected."""

    @field_validator("threshold", mode="before")
    @classmethod
    def _probability(cls, threshold: object) -> object:
        if threshold == "validation":
            return threshold
        try:
            number = None if isinstance(threshold, bool) else parse_number(threshold)
        except ValueError:
            number = None
        if number is None or not 0 < number < 1:
            raise ValueError("should be between 0 and 1, or `validation`")
        return number

    @field_validator("positive")
    @classmethod
    def _named(cls, positive: str) -> str:
        return named(positive)


class Binary(Choice, Thresholded):
    """Whether a text belongs to the positive class, learned by binary cross-entropy on one logit.

    Args:
        name: Name of the task.
        column: Name the user gave the label column.
        classes: The negative and the positive class.
        class_weights: Weight of each class in the loss, or None for equal weights.
        select_by: The figure that selects a model.
        threshold: Probability from which on a text is called positive; None until it is chosen,
            which until then is 0.5.
        chosen: Whether the threshold was chosen on the validation rows, and not given.
        show: Keys of the figures that tables show; none for those that suit.

    Example:
        >>> task = Binary("urgent", "urgent", ["no", "yes"])
        >>> task.encode(["yes", None, "no"])
        tensor([1., nan, 0.])
        >>> task.predict(torch.tensor([[9.0]]))["urgent"]
        ['yes']
    """

    kind: ClassVar[str] = "binary"
    options: ClassVar[type[TaskSettings]] = BinarySettings
    own_figures: ClassVar[tuple[Figure, ...]] = (
        Figure("f1", "F1", "F1", of_class="positive"),
        Figure("precision", "Precision", "share", tested=False, of_class="positive"),
        Figure("recall", "Recall", "share", tested=False, of_class="positive"),
        Figure("pr_auc", "PR-AUC", "area", of_class="positive"),
        Figure("roc_auc", "ROC-AUC", "area", tested=False, of_class="positive"),
        Figure("accuracy", "Accuracy", "share", tested=False),
    )
    main_figure = "f1"
    row_figure: ClassVar[str] = "accuracy"
    view: ClassVar[Any] = "confusion"

    def __init__(
        self,
        name: str,
        column: str,
        classes: Sequence[str],
        class_weights: Sequence[float] | None = None,
        select_by: str = "pr_auc",
        threshold: float | None = None,
        show: Sequence[str] = (),
        chosen: bool = False,
    ) -> None:
        super().__init__(name, column, outputs=1, show=show)
        self.classes = list(classes)
        self.class_weights = None if class_weights is None else list(class_weights)
        self.select_by = select_by
        self.threshold = threshold
        self.chosen = chosen

    @property
    def positive(self) -> str:  # type: ignore[override]
        """The class that is meant."""
        return self.classes[1]

    @property
    def selects_by(self) -> str:
        """Area under the precision-recall or the ROC curve, F1, or accuracy."""
        return self.select_by

    @staticmethod
    def parse(cell: object) -> str | None:
        """Turn a cell into a class name; "1", 1 and 1.0 are the same class."""
        return parse_name(cell)

    @classmethod
    def fit(
        cls,
        name: str,
        settings: BinarySettings,
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """Take the two classes and their weights from the training rows.

        Raises:
            UserError: The training rows do not have two classes, another split has a third one,
                or `positive` is no class.
        """
        column, counts = settings.column, Counter(values["train"])
        found = natural(list(counts))
        if len(found) != 2:
            advice = f"give another kind with --tasks {name}:classification"
            if len({label.casefold() for label in found}) == 2:
                advice = f"write alike what differs only in capital letters, or {advice}"
            if len(found) < 2:
                advice = f"name another with {name}.column=COLUMN"
            raise UserError(
                f"`{column}` should have two classes in the train split for the binary task "
                f"{name}. Found {len(found)}: {listed(found) or 'none'}. Correct the column, or "
                f"{advice}."
            )
        advice = f"Correct or remove these rows, or use --tasks {name}:classification."
        refuse_unseen(column, "class", found, values, removed, advice)
        positive = settings.positive or positive_class(found, counts)
        if positive not in found:
            raise UserError(
                f"`{name}.positive` should be {found[0]} or {found[1]}. Found {positive!r}. "
                f"Correct it, or leave it out for the rarer one."
            )
        classes = [next(label for label in found if label != positive), positive]
        rows = sum(counts.values())
        weights = [rows / (2 * counts[label]) for label in classes]
        return cls(
            name,
            column,
            classes,
            weights if settings.class_weights == "balanced" else None,
            select_by=settings.select_by,
            threshold=None if settings.threshold == "validation" else settings.threshold,
            show=settings.show,
        )

    def notes(self) -> list[str]:
        """Which class is meant, and the weights in the loss."""
        lines = [f"{self.name}: {self.positive} is the positive class, {self.classes[0]} the other"]
        if self.class_weights is None:
            return lines
        pairs = zip(self.classes, self.class_weights, strict=True)
        weights = ", ".join(f"{label} {weight:.4g}" for label, weight in pairs)
        return [*lines, f"loss of {self.name}: binary cross-entropy, class weights {weights}"]

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn class names into 0 and 1, float32, NaN where missing."""
        codes = self._coded(values, self.classes, torch.nan, "class")
        return torch.tensor(codes, dtype=torch.float32)

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the targets that are a class."""
        return ~targets.isnan()

    def row_weights(self, targets: Tensor) -> Tensor:
        """The weight of each row's class, 1 without class weights, 0 where the class is missing."""
        known = super().row_weights(targets)
        if self.class_weights is None:
            return known
        return known * known.new_tensor(self.class_weights)[targets.nan_to_num().long()]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy; with class weights the weighted mean over the rows."""
        logits, targets = outputs.squeeze(-1).float(), targets.to(outputs.device).float()
        if self.class_weights is None:
            return functional.binary_cross_entropy_with_logits(logits, targets)
        weights = logits.new_tensor(self.class_weights)[targets.long()]
        terms = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (weights * terms).sum() / weights.sum()

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The class, and the probability of each in `NAME_p_CLASS`."""
        positive = probabilities(self.scaled(outputs))[:, 0]
        names = [self.classes[int(called)] for called in self.decide(outputs)]
        both = dict(zip(self.classes, (1 - positive, positive), strict=True))
        return {self.name: names} | {f"{self.name}_p_{c}": p.tolist() for c, p in both.items()}

    @property
    def answers(self) -> Sequence[str]:
        """The negative and the positive class."""
        return self.classes

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Log-probability of each class, (n, 1, 2)."""
        logits = self.scaled(outputs.double())
        return functional.logsigmoid(torch.stack([-logits, logits], dim=-1))

    def decide(self, outputs: Tensor) -> Array:
        """1 where the probability, before it is scaled, reaches the threshold, else 0."""
        return self._called(probabilities(outputs)[:, 0], self.threshold)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """Figures of the decisions, and of the probabilities' order."""
        return self._scored(probabilities(outputs)[:, 0], targets, self.threshold)

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Accuracy, the figures of the positive class, and the confusion matrix.

        Without any positive row, precision, recall and F1 are None: a recall of nothing is not 0.
        """
        from sklearn.metrics import (
            accuracy_score,
            confusion_matrix,
            f1_score,
            precision_score,
            recall_score,
        )

        scores: dict[str, float | None] = {
            key: float(of(actual, predicted, zero_division=0)) if actual.any() else None
            for key, of in (
                ("f1", f1_score),
                ("precision", precision_score),
                ("recall", recall_score),
            )
        }
        return {
            "accuracy": float(accuracy_score(actual, predicted)),
            **scores,
            "positives": int(actual.sum()),
            "classes": self.classes,
            "confusion_matrix": confusion_matrix(actual, predicted, labels=[0, 1]).tolist(),
        }

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """1 where the class is right, 0 where it is wrong."""
        return np.asarray(predicted == actual, dtype=float)

    def tuned(self, outputs: Tensor, targets: Tensor) -> Self:
        """With the threshold of the best F1 on these rows, unless one was given."""
        if self.threshold is not None:
            return self
        found = chosen_threshold(probabilities(outputs)[:, 0], targets)
        return self.changed(threshold=found, chosen=True)

    def scaled_threshold(self) -> float:
        """The scaled probability of the positive class at the threshold."""
        return self.scaled_share(0.5 if self.threshold is None else self.threshold)

    def rule(self) -> str:
        """From which scaled probability on a text is positive; nothing where that is one half."""
        usual = self.threshold in (None, 0.5)
        return "" if usual else f"{self.positive} from {percent(self.scaled_threshold())}"

    def at_one_half(self) -> Self:
        """With the threshold 0.5."""
        return self.changed(threshold=0.5, chosen=False)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild the task that `to_dict` described.

        Earlier revisions did not say whether a threshold was chosen, which it is by default.
        """
        return super().from_dict({"chosen": state.get("threshold") is not None, **state})

    def linear(self, train: Labelled, texts: Sequence[str]) -> Tensor:
        """Logits (n, 1) of n texts by TF-IDF with logistic regression, balanced as the loss is."""
        known, targets = self.known(train)
        found = baselines.classify(
            known, targets.astype(int), texts, outputs=2,
            balanced=self.class_weights is not None, select_by=self.select_by, positive=1,
        )  # fmt: skip
        return torch.from_numpy(found[:, 1:]).logit()

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The majority class, the positive class everywhere, and TF-IDF with its own threshold."""
        _, targets = self.known(train)
        often = float(targets.mean() > 0.5)
        linear = probabilities(self.linear(train, [*validation[0], *test[0]]))[:, 0]
        inner, outer = linear[: len(validation[0])], linear[len(validation[0]) :]
        # A threshold that was chosen for the outputs of this model suits no other.
        given = None if self.chosen else self.threshold
        limit = chosen_threshold(inner, validation[1]) if given is None else given
        ones = np.ones(len(test[0]))
        rows = {"majority class": (often * ones, 0.5), f"always {self.positive}": (ones, 0.5)}
        rows[baselines.LINEAR] = (outer, limit)
        return {name: self._scored(p, test[1], from_) for name, (p, from_) in rows.items()}

    def _scored(self, positive: Array, targets: Tensor, threshold: float | None) -> dict[str, Any]:
        from sklearn.metrics import average_precision_score, roc_auc_score

        found = self.measure(self._called(positive, threshold), targets)
        if not found["n"]:
            return found
        known = self.labelled(targets).cpu().numpy()
        actual, scores = targets.detach().cpu().numpy()[known], positive[known]
        both = 0 < actual.sum() < len(actual)
        found["roc_auc"] = float(roc_auc_score(actual, scores)) if both else None
        found["pr_auc"] = float(average_precision_score(actual, scores)) if both else None
        return found | {"threshold": 0.5 if threshold is None else threshold}

    @staticmethod
    def _called(positive: Array, threshold: float | None) -> Array:
        return (positive >= (0.5 if threshold is None else threshold)).astype(int)
