"""What a task with one of several classes per text is asked to be."""

import re
import sys
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from dao.learner.kinds.parts.cells import named
from dao.learner.kinds.parts.task_settings import TaskSettings

__all__ = ["ClassificationSettings"]

EXPONENT = re.compile(r"[+-]?\d+[eE][+-]?\d+")  # which YAML 1.1 takes for text


class ClassificationSettings(TaskSettings):
    """Options of a task with one of several classes per text."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column", "positive", "label_column"})

    decide_scores: ClassVar[frozenset[str]] = TaskSettings.decide_scores | {
        "select_by", "positive", "cut",
    }  # fmt: skip

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
    """With loss=focal: the loss of a row is multiplied by (1 - p of its true class)^gamma."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    class_weights: Literal["none", "balanced", "effective"] = "none"
    """`balanced`: inverse to a class's rows; `effective`: to their effective number (arXiv
    1901.05555)."""
    beta: float = Field(0.999, ge=0, lt=1)
    """With class_weights=effective: 0 weighs all alike, towards 1 the weights become inverse to the
    rows."""
    cut: int | tuple[float, ...] | None = None
    """Make the classes out of a score, which then is what `column` holds: a number of classes of
    equal size in the training rows, or ascending thresholds."""
    label_column: str = ""
    """With `cut`: a column that the data may have for these classes, which is not read."""

    @property
    def unread(self) -> tuple[str, ...]:
        """The column of classes that are cut from a score instead."""
        return (self.label_column,) if self.label_column else ()

    @property
    def shared_values(self) -> bool:
        """Where cells name the classes; a score that classes are cut from may be any number."""
        return self.cut is None

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
        known = [e for e in given if isinstance(e, int | float) and not isinstance(e, bool)]
        if not all(abs(e) <= sys.float_info.max for e in known):
            raise ValueError("should be finite")
        ends = [float(e) for e in known]
        # An int by itself is a number of classes that is none.
        if isinstance(cut, int) or len(ends) < len(given) or not ends or ends != sorted(set(ends)):
            raise ValueError("should be a number of classes from 2 on, or ascending thresholds")
        return tuple(ends)
