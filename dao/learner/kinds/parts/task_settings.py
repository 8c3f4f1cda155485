"""What every task is asked to be."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from dao.learner.basics.frozen import Settings

__all__ = ["TaskSettings"]


class TaskSettings(Settings):
    """What every task is asked to be; each kind adds its own options."""

    null_words: ClassVar[frozenset[str]] = frozenset({"column"})
    decide_scores: ClassVar[frozenset[str]] = frozenset({"kind", "column"})
    """Options that change what is scored: runs that differ in one cannot be ranked."""
    takes_words: ClassVar[bool] = True
    """Whether a cell may be a word, such as the label of a sentence in a .txt file."""

    kind: str = ""
    """binary, classification, multilabel, ordinal or regression; empty: proposed from the data."""
    column: str = ""
    """Column with the targets; empty: the task's own name."""
    show: tuple[str, ...] = ()
    """Figures that tables show; empty: those that the kind proposes."""
    loss_factor: float = Field(1.0, gt=0)
    """Multiplies the loss before it is weighted, to make a mismatch of loss scales on purpose."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Columns that belong to this task in the data, and are not read."""
        return ()

    @property
    def shared_values(self) -> bool:
        """Whether texts share cells, so that one with a cell of its own for each is a mistake."""
        return False
