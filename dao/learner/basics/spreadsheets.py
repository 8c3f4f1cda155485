"""Cells of a CSV that a spreadsheet shows and never runs, and the same cells read back.

A spreadsheet takes text that begins with = + - @, a tab or a carriage return for a formula (OWASP,
"CSV Injection"). What this project writes has an apostrophe in front of such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["guarded", "harmless", "is_guarded", "predicted_columns", "unguarded"]

# With any apostrophes in front: a text that has one itself gets another, and so keeps its own.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SIGNS = ("+", "-")
TARGET, PROBABILITY, ROW_SCORE = "_target", "_p_", "_row_score"


def guarded(text: str) -> str:
    """The text as it is written: numbers and lone signs, which are no formulas, stay as they are.

    Example:
        >>> guarded("=1+1"), guarded("-4"), guarded("+"), guarded("'+")
        ("'=1+1", '-4', '+', "''+")
    """
    return f"'{text}" if _risky(text) and text not in SIGNS else text


def harmless(cell: Any) -> Any:  # noqa: ANN401  (a cell may be anything)
    """A cell as it is written: text as `guarded` has it; numbers, also negative ones, stay numbers.

    Example:
        >>> harmless("=1+1"), harmless(-4.0), harmless(None)
        ("'=1+1", -4.0, None)
    """
    return guarded(cell) if isinstance(cell, str) else cell


def unguarded(cell: str) -> str:
    """The text that `guarded` made this cell of.

    Example:
        >>> unguarded("'=1+1"), unguarded("+"), unguarded("'tis"), unguarded("''+")
        ('=1+1', '+', "'tis", "'+")
    """
    # Earlier versions also wrote a lone sign with an apostrophe.
    return cell[1:] if cell.startswith("'") and _risky(cell[1:]) else cell


def is_guarded(columns: Iterable[str]) -> bool:
    """Whether a CSV with these columns has predictions, and so was written by this project.

    It then has a column X of predictions, and beside it X_row_score, or the probabilities of two
    classes (X_p_up, X_p_down), or X_target directly in front of X, in the order in which runs
    write them. A table of somebody else may well have a label and a label_target.

    Example:
        >>> is_guarded(["text", "topic", "topic_p_a", "topic_p_b"]), is_guarded(["text", "topic"])
        (True, False)
        >>> is_guarded(["text", "price_target", "price"]), is_guarded(["price", "price_target"])
        (True, False)
    """
    names = list(columns)
    return any(_is_prediction(name, place, names) for place, name in enumerate(names))


def _is_prediction(name: str, place: int, names: Sequence[str]) -> bool:
    classes = sum(other.startswith(f"{name}{PROBABILITY}") for other in names)
    targeted = place > 0 and names[place - 1] == f"{name}{TARGET}"
    return bool(name) and (f"{name}{ROW_SCORE}" in names or classes > 1 or targeted)


def predicted_columns(columns: Iterable[str], tasks: Iterable[str]) -> set[str]:
    """The columns that hold predictions of these tasks, or what was predicted.

    Args:
        columns: Of a table.
        tasks: Names of tasks.

    Example:
        >>> sorted(predicted_columns(["text", "topic_p_up", "topic_2", "topics"], ["topic"]))
        ['topic_2', 'topic_p_up']
    """
    ends = f"{TARGET}|{ROW_SCORE}|{PROBABILITY}.*"
    made = [re.compile(rf"{re.escape(task)}({ends})?(_\d+)?", re.DOTALL) for task in tasks]
    return {column for column in columns if any(form.fullmatch(column) for form in made)}


def _risky(text: str) -> bool:
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)
