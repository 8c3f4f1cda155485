"""What the learner asks of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from numpy.typing import NDArray
from torch import Tensor

from dao.learner.kinds.parts.figures import Figure, bounded
from dao.learner.kinds.parts.targets import SPLITS, code_of, parse_all
from dao.learner.kinds.parts.task_settings import TaskSettings

__all__ = [
    "SPLITS",
    "Array",
    "Labelled",
    "Parser",
    "Recoding",
    "Task",
    "TaskSettings",
    "View",
]

Array = NDArray[Any]
Parser = Callable[[object], Any]
"""One cell of a data file to a target value, None where it is empty; ValueError for nonsense."""
Labelled = tuple[Sequence[str], Tensor]
"""Texts and their encoded targets."""
View = Literal["confusion", "scatter", "labels"]
"""The picture that shows predictions of a kind."""


class Recoding(NamedTuple):
    """Target values that are made of the cells of a column once the training rows are known.

    Attributes:
        values: Cells of the column, None where missing, to target values.
        about: What was done, as JSON, for the report on the data.
    """

    values: Callable[[Sequence[Any]], list[Any]]
    about: Mapping[str, Any]


class Task(ABC):
    """One thing to learn from a text: its targets, its loss, its figures.

    A batch holds rows of every task. Rows without a target for this task carry a mark in the
    encoded targets, and `labelled` finds the others.

    Args:
        name: Name of the task, such as "topic".
        column: Name the user gave the target column; error messages use it.
        outputs: Width of the head.
        show: Keys of the figures that tables show; none for those that the kind proposes.

    Attributes:
        kind: Name of the kind.
        options: The settings of the kind.
        own_figures: All figures that can be shown.
        main_figure: The one figure to tell where there is room for one.
        row_figure: The figure that is the mean of `row_scores`.
        row_better: `higher` where these are 1 and 0 for right and wrong, `lower` where they are
            errors.
        view: The picture that shows predictions.
    """

    kind: ClassVar[str]
    options: ClassVar[type[TaskSettings]]
    own_figures: ClassVar[tuple[Figure, ...]]
    main_figure: str
    row_figure: ClassVar[str]
    row_better: ClassVar[Literal["higher", "lower"]] = "higher"
    view: ClassVar[View]
    evidence_unit: ClassVar[str] = "the log-probability of the answer"
    hub_type: ClassVar[str] = "text-classification"
    """What the hub calls such a task."""
    positive: str | None = None
    """The class whose own figures are given; None where no class is of more interest."""

    def __init__(self, name: str, column: str, outputs: int, show: Sequence[str] = ()) -> None:
        self.name = name
        self.column = column
        self.outputs = outputs
        self.show = list(show)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures that tables show and experiments test, in the order of the columns."""
        if not self.show:
            return tuple(figure for figure in self.own_figures if figure.shown)
        by_key = {figure.key: figure for figure in self.own_figures}
        return tuple(by_key[key] for key in self.show)

    @property
    def headline(self) -> list[tuple[str, str]]:
        """`figures` by key, each with the arrow of its better direction."""
        return [(figure.key, figure.arrow) for figure in self.figures]

    @property
    @abstractmethod
    def selects_by(self) -> str:
        """Key of the figure that selects a model on the validation split: higher is better."""

    @classmethod
    def parser(cls, settings: Any) -> Parser:  # noqa: ANN401
        """What turns one cell into a target value, by the settings of the kind."""
        return cls.parse

    @staticmethod
    @abstractmethod
    def parse(cell: object) -> Any:  # noqa: ANN401
        """Turn one cell of a data file into a target value.

        Returns:
            The value, or None where the cell is empty.

        Raises:
            ValueError: The cell holds something that is no target; the message says what is
                expected instead.
        """

    @classmethod
    def recoding(cls, name: str, settings: Any, training: Sequence[Any]) -> Recoding | None:  # noqa: ANN401
        """How targets are made of parsed cells, where they are not the cells themselves.

        Args:
            name: Of the task.
            settings: Of its kind.
            training: Parsed cells of the training rows, all present.
        """
        return None

    @classmethod
    @abstractmethod
    def fit(
        cls,
        name: str,
        settings: Any,  # noqa: ANN401
        values: Mapping[str, Sequence[Any]],
        recoding: Recoding | None = None,
        removed: int = 0,
    ) -> Self:
        """The task as the training rows have it.

        Args:
            name: Of the task.
            settings: Of its kind, with the column.
            values: Split -> target values, those that are present.
            recoding: What made the values of the cells, if anything did.
            removed: Training rows that were left out, because their texts are in another split.

        Raises:
            UserError: The training rows teach nothing, or other rows hold what they never show.
        """

    def unseen_parser(self) -> Parser:
        """What turns a cell of new data into what `unseen_values` takes."""
        return self.parse

    def unseen_values(self, cells: Sequence[Any]) -> list[Any]:
        """Target values of parsed cells of new data."""
        return list(cells)

    @staticmethod
    def stratum(value: Any) -> str:  # noqa: ANN401
        """The group of a value: train, validation and test get equal shares of each group."""
        return "number" if isinstance(value, int | float) else str(value)

    @classmethod
    def parts(cls, value: Any) -> tuple[str, ...]:  # noqa: ANN401
        """What may not vanish from training, as words: classes, labels, one word for all numbers.

        The last training text of each of these is never moved.
        """
        return (cls.stratum(value),)

    @classmethod
    def summary(cls, values: Sequence[Any]) -> dict[str, float]:
        """What the report on the data says of target values, all present: rows of each."""
        return dict(sorted(Counter(values).items()))

    @abstractmethod
    def encode(self, values: Sequence[object | None]) -> Tensor:
        """Target values, None where missing, to one tensor, (n,) or (n, labels).

        Raises:
            UserError: A value cannot be a target of this task.
        """

    @abstractmethod
    def labelled(self, targets: Tensor) -> Tensor:
        """Boolean mask, shape (n,), of the encoded targets that are present."""

    def row_weights(self, targets: Tensor) -> Tensor:
        """What each encoded target counts in the mean that `loss` takes: (n,), 0 where missing.

        A batch that is split over processes gets the loss of the whole by these.
        """
        return self.labelled(targets).double()

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of outputs (n, width) against encoded targets (n, ...), all present."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, list[Any]]:
        """Columns for a table of predictions, one entry per row of outputs (n, width).

        The first is called as the task and holds the decisions; probabilities are in
        ``NAME_p_CLASS``.
        """

    def written(self, values: Sequence[Any]) -> list[Any]:
        """Target values as a table of predictions holds them."""
        return list(values)

    @abstractmethod
    def decide(self, outputs: Tensor) -> Array:
        """Predictions, shape (n,) or (n, labels), in the unit of the encoded targets."""

    @abstractmethod
    def evidence(self, outputs: Tensor, decided: Array) -> Tensor:
        """What speaks for decisions, (n,), differentiable: what `evidence_unit` says of them.

        Args:
            outputs: Of n rows, (n, width).
            decided: What `decide` gives of n rows, or of the one row that all of them are about.
        """

    @abstractmethod
    def compare(self, predicted: Array, actual: Array) -> dict[str, Any]:
        """Figures of predictions against encoded targets, both of n > 0 rows, all present."""

    @abstractmethod
    def row_scores(self, predicted: Array, actual: Array) -> Array:
        """What each row adds to the mean that is `row_figure`, shape (n,).

        1 or 0 where a row is right or wrong, which McNemar's test takes; else an error.
        """

    def score(self, metrics: Mapping[str, Any]) -> float | None:
        """The number that selects a model on the validation split: higher is better, 1 at best.

        None where it is undefined, such as on too few rows. Below -1 it counts as -1.
        """
        return bounded(metrics.get(self.selects_by))

    def tuned(self, outputs: Tensor, targets: Tensor) -> Self:
        """This task with what is chosen on the validation rows once a model is selected.

        Args:
            outputs: Of the selected model, (n, width).
            targets: Encoded, some of them may be missing.
        """
        return self

    @abstractmethod
    def baselines(
        self, train: Labelled, test: Labelled, validation: Labelled
    ) -> dict[str, dict[str, Any]]:
        """Figures on `test` of the plain models that any result has to beat.

        Args:
            train: What they learn from.
            test: What they are measured on.
            validation: What they may choose by, as the model does.
        """

    def notes(self) -> list[str]:
        """What a person should know of this task before it is trained, in short lines."""
        return []

    def described(self) -> dict[str, Any]:
        """What metrics.json says of the task; `recorded.Recorded` has the same names."""
        return {
            "kind": self.kind,
            "column": self.column,
            "figures": [figure.to_dict() for figure in self.figures],
            "selects_by": self.selects_by,
            "main_figure": self.main_figure,
            "row_figure": self.row_figure,
            "row_better": self.row_better,
            "view": self.view,
            "positive": self.positive,
        }

    def to_dict(self) -> dict[str, Any]:
        """State as JSON: the kind, and the arguments of the constructor by their names."""
        return {"kind": self.kind} | {k: v for k, v in vars(self).items() if k != "outputs"}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild the task that `to_dict` described."""
        return cls(**{name: value for name, value in state.items() if name != "kind"})

    def changed(self, **arguments: Any) -> Self:  # noqa: ANN401
        """A task like this one but for these arguments of the constructor."""
        return self.from_dict({**self.to_dict(), **arguments})

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """JSON-able figures over the rows with a target; `n` counts them."""
        return self.measure(self.decide(outputs), targets)

    def measure(self, predicted: Array, targets: Tensor) -> dict[str, Any]:
        """Figures of finished predictions (n, ...) against encoded targets (n, ...)."""
        known = self.labelled(targets).cpu().numpy()
        if not known.any():
            return {"n": 0}
        actual = targets.detach().cpu().numpy()[known]
        return {"n": int(known.sum()), **self.compare(predicted[known], actual)}

    def scores_of_rows(self, outputs: Tensor, targets: Tensor) -> list[float | None]:
        """`row_scores` of every row, None where the target is missing."""
        known = self.labelled(targets).cpu()
        actual = targets[known].detach().cpu().numpy()
        found = iter(self.row_scores(self.decide(outputs[known]), actual).tolist())
        return [float(next(found)) if present else None for present in known.tolist()]

    def known(self, rows: Labelled) -> tuple[list[str], Array]:
        """The texts that have a target, and those targets."""
        texts, targets = rows
        present = self.labelled(targets).numpy()
        kept = [text for text, there in zip(texts, present, strict=True) if there]
        return kept, targets.numpy()[present]

    def _coded(
        self, values: Sequence[object | None], names: Sequence[str], missing: float, what: str
    ) -> list[float]:
        """The place of each value in `names`; `missing` for None.

        Args:
            values: names, or cells that hold them.
            names: of the classes or levels.
            missing: the code of a missing value.
            what: "class" or "level", for messages.
        """
        index: dict[Any, float] = {name: place for place, name in enumerate(names)}
        index[None] = missing
        return [
            code_of(self.column, what, index, value, row)
            for row, value in enumerate(parse_all(self.column, self.parse, values), start=1)
        ]
