"""Cells of a CSV that a spreadsheet shows and never runs, and the same cells read back.

A spreadsheet takes text that begins with = + - @, a tab or a carriage return for a formula (OWASP,
"CSV Injection"). What this project writes has an apostrophe in front of such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["guarded", "is_guarded", "unguarded"]

# With any apostrophes in front: a text that has one itself gets another, and so keeps its own.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SIGNS = ("+", "-")
TARGET, PROBABILITY = "_target", "_p_"


def guarded(text: str) -> str:
    """The text as it is written: numbers and lone signs, which are no formulas, stay as they are.

    Example:
        >>> guarded("=1+1"), guarded("-4"), guarded("+"), guarded("'+")
        ("'=1+1", '-4', '+', "''+")
    """
    return f"'{text}" if _risky(text) and text not in SIGNS else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made this cell of.

    Example:
        >>> unguarded("'=1+1"), unguarded("+"), unguarded("'tis"), unguarded("''+")
        ('=1+1', '+', "'tis", "'+")
    """
    # Earlier versions also wrote a lone sign with an apostrophe.
    return cell[1:] if cell.startswith("'") and _risky(cell[1:]) else cell


def is_guarded(columns: Iterable[str], tasks: Iterable[str]) -> bool:
    """Whether a CSV with these columns has predictions, and so was written by this project.

    The column of a task then stands beside one of its targets (`cls_target`) or of the probability
    of a class (`cls_p_up`).

    Example:
        >>> is_guarded(["text", "cls", "cls_p_up"], ["cls"]), is_guarded(["text", "cls"], ["cls"])
        (True, False)
    """
    names = list(columns)
    return any(
        name == f"{task}{TARGET}" or name.startswith(f"{task}{PROBABILITY}")
        for task in tasks
        if task in names
        for name in names
    )


def _risky(text: str) -> bool:
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)
