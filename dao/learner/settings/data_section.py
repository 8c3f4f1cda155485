"""The settings of the data: which tables, what their columns are called, how they are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from dao.learner.basics.frozen import Settings
from dao.learner.kinds.parts.cells import MISSING

__all__ = ["Data", "Synthetic"]

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Synthetic(Settings):
    """The embedded headlines (used when no data is given)."""

    rows: int = Field(6000, ge=200)
    """Headlines to generate, all splits together."""
    seed: int = 0
    """Decides which headlines are generated; the `seed` of a run changes nothing in them."""
    label_noise: float = Field(0.03, ge=0, le=0.5)
    """Probability that the annotator picked another class."""
    score_noise: float = Field(0.08, ge=0, le=0.3)
    """Standard deviation of the annotator's error on the score."""


class Data(Settings):
    """Which tables, and what their columns are called."""

    null_words: ClassVar[frozenset[str]] = frozenset({"text", "domain", "id", "where", "missing"})

    sources: tuple[str, ...] = ()
    """CSV, TSV, XLSX, Parquet, JSON, JSONL files, FILE.xlsx:SHEET, data that are registered by
    name, or a hub data set; empty: the embedded headlines."""
    text: tuple[str, ...] = ("text",)
    """Column of the text; two columns, such as [premise,hypothesis]: a pair of texts."""
    split: str = "split"
    """Column that says train, validation or test; empty or null: ignore such a column and split."""
    domain: str = "domain"
    """Column with the domain of each row, by which the figures are broken down, and which says to
    which expert a row belongs."""
    id: str = "id"
    """Column that names each row, in predictions.csv and where rows of two files are compared."""
    slices: tuple[str, ...] | None = None
    """Columns to break the results down by; null: every other column of 2 to 12 values."""
    where: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Train and test on rows that hold this value, or one of these, in a column: {agree: 1.0}."""
    split_seed: int = 0
    """Decides the split where the data has none; the same in every arm and seed."""
    fractions: tuple[Fraction, Fraction, Fraction] = (0.8, 0.1, 0.1)
    """Shares of train, validation and test where the data has no split; they sum to 1."""
    missing: tuple[str, ...] = MISSING
    """What a cell of a label, a score, a split, a domain or a breakdown holds where the value is
    missing, beside empty cells; words count as they are spelled, numbers as numbers. From rules=3
    on the default list counts `None` and `null` too, from rules=4 on a lone `-` in a column of two
    or more other values, none of them `+`, and from rules=5 on breakdowns have missing values."""
    encoding: str = "utf-8"
    """Encoding of CSV, TSV, JSON, JSONL and TXT files, for example windows-1252 or utf-16."""
    rules: Literal[1, 2, 3, 4, 5] = 5
    """How tables are read and split. 1: as before `missing` came: each class's share is rounded by
    itself, rows that two sources share count twice, copies of a text are found by its letters and
    digits alone, and numbers may be texts. 2: as before `None` and `null` were missing values.
    3: as before `-` was one. 4: as before breakdowns had any. Runs that began then are read by the
    rules of then."""
    synthetic: Synthetic = Synthetic()

    @property
    def pairs(self) -> bool:
        """Whether every row has two texts."""
        return len(self.text) == 2

    @field_validator("split", mode="before")
    @classmethod
    def _null_is_empty(cls, split: object) -> object:
        return "" if split is None else split

    @field_validator("where", mode="before")
    @classmethod
    def _cells_are_text(cls, where: object) -> object:
        if any(map(_is_nested, where.values() if isinstance(where, dict) else ())):
            raise ValueError("should hold a value, or a list of values, for each column")

        def text(cell: object) -> object:
            if isinstance(cell, list | tuple):
                return tuple(map(text, cell))
            return str(cell).lower() if isinstance(cell, bool) else cell

        return {k: text(v) for k, v in where.items()} if isinstance(where, dict) else where

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)
        except (LookupError, ValueError):
            raise ValueError("should be a text encoding, such as utf-8 or windows-1252") from None
        return encoding

    @model_validator(mode="after")
    def _has_markers(self) -> Data:
        if self.rules == 1 and self.missing != MISSING:
            raise ValueError(
                "`missing` should come with rules=2 or more. Found rules=1, which has none"
            )
        return self

    @field_validator("text")
    @classmethod
    def _one_or_two(cls, text: tuple[str, ...]) -> tuple[str, ...]:
        if len(text) not in (1, 2) or len(set(text)) < len(text):
            raise ValueError("should be one column, or two different ones for pairs of texts")
        return text

    @field_validator("fractions", mode="before")
    @classmethod
    def _three(cls, fractions: object) -> object:
        if not isinstance(fractions, list | tuple) or len(fractions) != 3:
            raise ValueError("should be three shares with a sum of 1")
        return fractions

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(f"should be three shares with a sum of 1, not {sum(fractions):g}")
        return fractions


def _is_nested(cells: object) -> bool:
    """Whether this is neither a cell nor a list of cells."""
    return isinstance(cells, dict) or (
        isinstance(cells, list | tuple) and any(isinstance(c, dict | list | tuple) for c in cells)
    )
