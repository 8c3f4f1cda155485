"""What the model makes of the texts of one request, as JSON takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dao.learner.inference.load import Model, Text
from dao.learner.inference.predictor import CutTexts

__all__ = ["Answers", "answered", "own_count", "plain"]


class Answers(NamedTuple):
    """The answers to one request.

    Attributes:
        rows: A row per text, in order: column of predictions.csv to its value.
        notes: Lines on what a person should know of them, such as that texts were cut.
    """

    rows: list[dict[str, Any]]
    notes: list[str]


def own_count(model: Model) -> Model:
    """The same model, which counts the texts that it cuts from 0, for one request."""
    own = replace(model, predictor=replace(model.predictor, counted=CutTexts()), told=())
    read = {name: value for name, value in vars(model).items() if name == "calibration"}
    vars(own).update(read)  # so that a request reads no file of the run
    return own


def answered(model: Model, texts: Sequence[Text], coverage: float | None = None) -> Answers:
    """What every task makes of each text, with a coverage also its set or interval.

    Raises:
        UserError: As `Model.predict`.
    """
    own = own_count(model)
    rows = own.predict(texts, coverage=coverage)
    return Answers(
        [{name: plain(value) for name, value in row.items()} for row in rows], own.notes()
    )


def plain(value: Any) -> Any:  # noqa: ANN401  (an answer may be anything)
    """A value that JSON has: None in place of NaN and the infinities, words of what it lacks.

    Example:
        >>> plain(0.5), plain(float("nan")), plain("up"), plain({"a"})
        (0.5, None, 'up', "{'a'}")
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)
