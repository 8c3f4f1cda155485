"""The one table that every source of data is turned into."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd

from dao.learner.kinds.base import Recoding, TaskSettings
from dao.learner.kinds.declared import BUILT_IN
from dao.learner.kinds.parts.cells import MISSING, USUAL

__all__ = ["Columns", "Table"]

LABELS = "label"
"""Column of the labels of a .txt file where no task can have them."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the user's files, and how these files are read.

    Args:
        text: The text to learn from.
        targets: Column of each task.
        split: Column saying train, validation or test; may be absent from the files. Empty: none
            is looked for.
        domain: Column naming the origin of a row; may be absent.
        id: Column naming the row; may be absent.
        settable: Whether the user can give these names as settings, which errors then advise.
        missing: What a cell of a target, a split, a domain or a breakdown holds where the value is
            missing, beside empty cells; numbers count as numbers.
        encoding: Of text files.
        second: The other text of a row that is a pair of texts; empty: every row has one text.
        labels: Column that the labels of a .txt file come under, which has no names of columns.
        signs: Whether `-` may stand for nothing, as it does beside words other than `+`.
        dashes: Columns in which it does (`absent.dashed`).
        rules: 1 reads tables as before `missing` came: only empty cells are missing, and rows that
            two sources share count twice. 2 knows fewer of the usual words for nothing. Up to 4,
            breakdowns have every value that is not empty.
        sheet: Of an .xlsx file; empty: the first.
        separator: Of the cells of a .csv file; empty: that of its ending.
    """

    text: str = "text"
    targets: Mapping[str, str] = field(
        default_factory=lambda: {name: str(task["column"]) for name, task in BUILT_IN.items()}
    )
    split: str = "split"
    domain: str = "domain"
    id: str = "id"
    settable: bool = True
    missing: Sequence[str] = USUAL
    encoding: str = "utf-8"
    signs: bool = True
    dashes: Collection[str] = frozenset()
    rules: int = 5
    second: str = ""
    labels: str = LABELS
    sheet: str = ""
    separator: str = ""

    @classmethod
    def named(
        cls,
        settings: Any,  # noqa: ANN401
        targets: Mapping[str, str],
        labels: str | None = None,
    ) -> Self:
        """The names that `settings` gives in its attributes, and the column of each task."""
        missing = settings.missing if settings.rules > 1 else ()
        if settings.rules > 2 and tuple(missing) == MISSING:
            missing = USUAL
        signs = settings.rules > 3 and tuple(settings.missing) == MISSING
        return cls(
            settings.text[0], targets, settings.split, settings.domain, settings.id,
            missing=missing, encoding=settings.encoding, signs=signs,
            rules=settings.rules, second=settings.text[1] if len(settings.text) > 1 else "",
            labels=labels or LABELS,
        )  # fmt: skip

    @property
    def texts(self) -> tuple[str, ...]:
        """The column of the text, or both columns of a pair of texts."""
        return (self.text, self.second) if self.second else (self.text,)

    @property
    def told(self) -> tuple[str, ...]:
        """The parts of which it is said how many cells are missing."""
        return ("domain", *self.targets)

    def column(self, part: str) -> str:
        """Name of the column of a part: text, second, split, domain, id or a task."""
        return self.targets[part] if part in self.targets else getattr(self, part)

    def advice(self, parts: Sequence[str]) -> str:
        """The end of an error message: how another column becomes one of these parts."""
        if not self.settable:
            return "rename another column to it."
        if self.second and {"text", "second"} & set(parts):
            return "name two other columns with data.text=[COLUMN,COLUMN]."
        return f"name another column with {' or '.join(f'data.{part}=COLUMN' for part in parts)}."


@dataclass(frozen=True)
class Table:
    """Rows of text with the targets of every task.

    Args:
        frame: Columns `id`, `text`, `split`, `domain` if there is one, one per task under the
            task's name (None where missing), and whatever else the files held.
        columns: The user's names of these columns.
        report: What was read, dropped and split, ready for JSON.
        tasks: The settings of each task, with the kinds that were proposed.
        recodings: Of the tasks whose targets are made of the cells, what makes them.
    """

    frame: pd.DataFrame
    columns: Columns
    report: dict[str, Any]
    tasks: Mapping[str, TaskSettings] = field(default_factory=dict)
    recodings: Mapping[str, Recoding] = field(default_factory=dict)

    def rows(self, split: str) -> pd.DataFrame:
        """Rows of one split, in table order."""
        return self.frame[self.frame["split"] == split]

    def values(self, task: str, split: str) -> list[Any]:
        """Targets of one task in one split, missing ones left out."""
        return [value for value in self.rows(split)[task] if value is not None]
