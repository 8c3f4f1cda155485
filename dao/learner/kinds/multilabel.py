"""Any number of labels per text, such as tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from dao.errors import UserError
from dao.learner.basics.numbers import percent
from dao.learner.basics.wording import count, listed, shown
from dao.learner.kinds.base import (
    SPLITS,
    Array,
    Labelled,
    Parser,
    Recoding,
    TaskSettings,
)
from dao.learner.kinds.certainty.probable import Probable
from dao.learner.kinds.parts import baselines
from dao.learner.kinds.parts.cells import natural, parse_name
from dao.learner.kinds.parts.figures import Figure
from dao.learner.kinds.parts.targets import code_of, parse_all, refuse_unseen
from dao.learner.kinds.parts.thresholds import probabilities

__all__ = ["Multilabel", "MultilabelSettings", "split_labels"]

NO_LABEL = "no label"


class MultilabelSettings(TaskSettings):
    """Options of a task with any number of labels per text."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column", "separator"})

    decide_scores: ClassVar[frozenset[str]] = TaskSettings.decide_scores | {
        "select_by", "separator", "empty",
    }  # fmt: skip

    kind: Literal["multilabel"] = "multilabel"
    separator: str = ";"
    """Between the labels in a cell of a CSV file; lists (Parquet, JSON) need none."""
    empty: Literal["missing", "none"] = "missing"
    """What an empty cell says: that the labels are missing, or that the text has none. A cell with
    the separator alone, and an empty list, always say that the text has none."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which on a text is given a label."""
    select_by: Literal["micro_f1", "macro_f1", "subset_accuracy"] = "micro_f1"
    """Figure on the validation split by which the best model is kept."""

    @field_validator("separator")
    @classmethod
    def _not_blank(cls, separator: str) -> str:
        if not separator:
            raise ValueError("should be one or more characters")
        return separator


class Multilabel(Probable):
    """Which labels a text has, learned by the mean binary cross-entropy of a logit per label.

    Args:
        name: Name of the task.
        column: Name the user gave the column.
        labels: All labels, in the order of the outputs.
        separator: Between labels in a cell.
        empty: "missing" or "none": what an empty cell says.
        threshold: Probability from which on a text is given a label.
        select_by: The figure that selects a model.
        show: Keys of the figures that tables show; none for those that suit.

    Example:
        >>> task = Multilabel("tags", "tags", ["cost", "delay"])
        >>> task.encode([("delay",), None, ()])
        tensor([[0., 1.],
                [nan, nan],
                [0., 0.]])
        >>> task.predict(torch.tensor([[9.0, 9.0]]))["tags"]
        ['cost;delay']
    """

    kind: ClassVar[str] = "multilabel"
    options: ClassVar[type[TaskSettings]] = MultilabelSettings
    own_figures: ClassVar[tuple[Figure, ...]] = (
        Figure("micro_f1", "Micro F1", "F1"),
        Figure("macro_f1", "Macro F1", "F1"),
        Figure("subset_accuracy", "Subset accuracy", "share", tested=False),
    )
    main_figure = "micro_f1"
    row_figure: ClassVar[str] = "subset_accuracy"
    view: ClassVar[Any] = "labels"

    def __init__(
        self,
        name: str,
        column: str,
        labels: Sequence[str],
        separator: str = ";",
        empty: str = "missing",
        threshold: float = 0.5,
        select_by: str = "micro_f1",
        show: Sequence[str] = (),
    ) -> None:
        super().__init__(name, column, outputs=len(labels), show=show)
        self.labels = list(labels)
        self.separator = separator
        self.empty = empty
        self.threshold = threshold
        self.select_by = select_by

    @property
    def selects_by(self) -> str:
        """Micro or macro F1, or subset accuracy."""
        return self.select_by

    @classmethod
    def parser(cls, settings: MultilabelSettings) -> Parser:
        """Cells to labels by the separator."""
        return lambda cell: split_labels(cell, settings.separator, settings.empty)

    @staticmethod
    def parse(cell: object) -> tuple[str, ...] | None:
        """Turn labels that were read already, or a list, into labels."""
        return split_labels(cell)

    def unseen_parser(self) -> Parser:
        """Cells to labels by the separator."""
        return lambda cell: split_labels(cell, self.separator, self.empty)

    @staticmethod
    def stratum(value: Any) -> str:  # noqa: ANN401
        """The first label: sets of labels are too many to give each its share."""
        return value[0] if value else NO_LABEL

    @classmethod
    def parts(cls, value: Any) -> tuple[str, ...]:  # noqa: ANN401
        """The labels."""
        return tuple(value)

    @classmethod
    def fit(
        cls,
        name: str,
        settings: MultilabelSettings,
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """Take the labels from the training rows.

        Raises:
            UserError: There is no label that some training rows have and others have not, another
                split has a label that training never shows, or a label holds the separator.
        """
        column, rows = settings.column, len(values["train"])
        counts = Counter(label for labels in values["train"] for label in labels)
        if not any(0 < number < rows for number in counts.values()):
            raise UserError(
                f"`{column}` should have labels that some training texts have and others have not. "
                f"Found {listed(natural(list(counts))) or 'no label'} in {count(rows)}. Name the "
                f"column of {name} with {name}.column=COLUMN, or, where cells are text and no "
                f"lists, set {name}.separator."
            )
        for label in counts:
            if settings.separator in label:
                raise UserError(
                    f"`{name}.separator` should be in no label, because predictions are written "
                    f"with it. Found {settings.separator!r} in {shown(label)}. Set another one."
                )
        names = {split: list(chain.from_iterable(values[split])) for split in SPLITS}
        refuse_unseen(column, "label", counts, names, removed)
        return cls(
            name,
            column,
            natural(list(counts)),
            settings.separator,
            settings.empty,
            settings.threshold,
            settings.select_by,
            settings.show,
        )

    def notes(self) -> list[str]:
        """How many labels there are."""
        return [f"{self.name}: {count(len(self.labels), 'label')}, {listed(self.labels)}"]

    @classmethod
    def summary(cls, values: Sequence[Any]) -> dict[str, float]:
        """Rows of each label."""
        return super().summary([label for labels in values for label in labels])

    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Turn labels into marks, float32 (n, labels), a row of NaN where they are missing."""
        index = {label: i for i, label in enumerate(self.labels)}
        found = torch.zeros(len(values), len(self.labels))
        for row, labels in enumerate(parse_all(self.column, self.parse, values)):
            if labels is None:
                found[row] = torch.nan
            for label in labels or ():
                found[row, code_of(self.column, "label", index, label, row + 1)] = 1
        return found

    def labelled(self, targets: Tensor) -> Tensor:
        """Mask of the rows whose labels are known."""
        return ~targets.isnan().any(dim=-1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, mean over rows and labels."""
        return functional.binary_cross_entropy_with_logits(outputs.float(), targets.float())

    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """The labels in one cell, and the probability of each in `NAME_p_LABEL`."""
        labels = np.array(self.labels, dtype=object)
        names = self.written([labels[row].tolist() for row in self.decide(outputs).astype(bool)])
        each = probabilities(self.scaled(outputs))
        columns = {
            f"{self.name}_p_{label}": each[:, i].tolist() for i, label in enumerate(self.labels)
        }
        return {self.name: names} | columns

    def written(self, values: Sequence[Any]) -> list[Any]:
        """Labels as one cell; the separator alone where there is none."""
        return [None if v is None else self.separator.join(v) or self.separator for v in values]

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Log-probability of lacking and of having each label, (n, labels, 2)."""
        logits = self.scaled(outputs.double())
        return functional.logsigmoid(torch.stack([-logits, logits], dim=-1))

    def decide(self, outputs: Tensor) -> Array:
        """1 where the probability of a label, before it is scaled, reaches the threshold."""
        return (probabilities(outputs) >= self.threshold).astype(int)

    def scaled_threshold(self) -> float:
        """The scaled probability of a label at the threshold."""
        return self.scaled_share(self.threshold)

    def rule(self) -> str:
        """From which scaled probability on a text has a label; nothing where that is one half."""
        return "" if self.threshold == 0.5 else f"a label from {percent(self.scaled_threshold())}"

    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Micro and macro F1, the share of rows with all labels right, the figures of each label.

        Macro F1 is the mean over the labels that occur among predictions or targets; both F1 are
        None where no target has a label, whatever is predicted.
        """
        # By hand: scikit-learn takes the column of a single label for two classes.
        called, true = predicted > 0, actual > 0
        hits, rows, support = ((called & true).sum(axis=0), called.sum(axis=0), true.sum(axis=0))
        each = {
            "precision": _shares(hits, rows),
            "recall": _shares(hits, support),
            "f1": _shares(2 * hits, rows + support),
        }
        some, defined = rows + support > 0, true.any()
        return {
            "micro_f1": float(2 * hits.sum() / (rows + support).sum()) if defined else None,
            "macro_f1": float(each["f1"][some].mean()) if defined else None,
            "subset_accuracy": float((called == true).all(axis=1).mean()),
            "per_label": {
                label: {key: float(share[i]) for key, share in each.items()}
                | {"support": int(support[i])}
                for i, label in enumerate(self.labels)
            },
        }

    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """1 where all labels are right, 0 where one is wrong."""
        return np.asarray((predicted == actual).all(axis=1), dtype=float)

    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """The majority of each label, the most frequent label, TF-IDF with a model per label.

        The C of each label's model is chosen by its F1, because most rows lack a rare label.
        """
        texts, marks = self.known(train)
        rows = len(test[0])
        first = np.zeros((rows, len(self.labels)))
        first[:, marks.sum(axis=0).argmax()] = 1
        each = [
            baselines.classify(texts, own.astype(int), test[0], outputs=2, select_by="f1")[:, 1]
            for own in marks.T
        ]
        found = {
            "majority class": np.tile(marks.mean(axis=0) > 0.5, (rows, 1)),
            "most frequent label": first,
            baselines.LINEAR: np.stack(each, axis=1) >= self.threshold,
        }
        return {name: self.measure(m.astype(int), test[1]) for name, m in found.items()}


def _shares(parts: Array, wholes: Array) -> Array:
    """Parts of wholes, 0 of nothing."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


def split_labels(
    cell: object, separator: str = ";", empty: str = "missing"
) -> tuple[str, ...] | None:
    """A cell as distinct labels in natural order, None where they are missing.

    Args:
        cell: Text with labels between separators, or a list of labels.
        separator: Between them.
        empty: "missing" or "none": what an empty cell says.

    Raises:
        ValueError: The cell holds neither.

    Example:
        >>> split_labels("b; a;b"), split_labels(["a"]), split_labels(""), split_labels(";")
        (('a', 'b'), ('a',), None, ())
    """
    expected = "labels in one text or in a list, or empty where they are missing"
    if cell is None or (isinstance(cell, str) and not cell.strip() and cell != separator):
        return () if empty == "none" else None
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, dict | bytes):
        raise ValueError(expected)
    parts = list(cell) if isinstance(cell, list | tuple | set) else str(cell).split(separator)
    try:
        names = {name for part in parts if (name := parse_name(part))}
    except ValueError:
        raise ValueError(expected) from None
    return tuple(natural(list(names)))
