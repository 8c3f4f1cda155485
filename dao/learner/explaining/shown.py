"""Attributions of tokens as a person reads them in a terminal or a pipe."""

from __future__ import annotations

import sys

from rich.table import Table
from rich.text import Text

from dao.learner.basics.numbers import aligned, number
from dao.learner.basics.pairs import PAIR
from dao.learner.basics.tables import titled
from dao.learner.console.terminal import plain_console, printable
from dao.learner.explaining.attribution import Explanation

__all__ = ["print_explanation"]

FOR, AGAINST = "black on green", "white on red"
NOTABLE = 0.15
"""Share of the largest attribution from which on a token is coloured."""
STRONGEST = 12
"""Tokens whose numbers a terminal shows."""
BAR = 20  # characters of the longest bar


def print_explanation(found: Explanation) -> None:
    """Print the answer, the text with its tokens in colour, and the tokens with their numbers.

    A terminal shows the numbers of the strongest tokens, a pipe those of all.
    """
    terminal = sys.stdout.isatty()
    console = plain_console(width=None if terminal else 120)
    console.print(
        f"{found.task}: {found.answer}; {found.of} is {number(found.value)}, and "
        f"{number(found.baseline)} without the words",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if terminal:
        console.print(coloured(found))
    console.print(numbers_table(found, STRONGEST if terminal else len(found.tokens)))
    console.print(
        f"sum {number(sum(found.attributions), signed=True)}, which misses the difference by "
        f"{number(found.gap, signed=True)}, in {found.steps} steps",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def coloured(found: Explanation) -> Text:
    """The tokens in a row: green what speaks for the answer or raises it, red what is against."""
    largest, line = _largest(found), Text()
    for token, value in zip(found.tokens, found.attributions, strict=True):
        style = "" if abs(value) < NOTABLE * largest else FOR if value > 0 else AGAINST
        line.append(printable(_plain(token)), style=style)
        line.append(" ")
    return line


def numbers_table(found: Explanation, most: int) -> Table:
    """A row per token in the order of the text, of the `most` strongest tokens."""
    places = sorted(range(len(found.tokens)), key=lambda i: -abs(found.attributions[i]))[:most]
    left_out = len(found.tokens) - len(places)
    title = f"the {len(places)} strongest tokens" if left_out else "tokens"
    table = titled(title, ["token", "adds", "bar"], words=("token", "bar"))
    chosen, largest = sorted(places), _largest(found)
    cells = aligned([found.attributions[place] for place in chosen], signed=True)
    for place, cell in zip(chosen, cells, strict=True):
        value = found.attributions[place]
        bar = round(BAR * abs(value) / largest) * ("+" if value > 0 else "-")
        style = "green" if value > 0 else "red"
        table.add_row(_plain(found.tokens[place]), cell, Text(bar, style=style))
    return table


def _largest(found: Explanation) -> float:
    return max(map(abs, found.attributions), default=0.0) or 1.0


def _plain(token: str) -> str:
    return token.replace(PAIR, " ")
