"""The terminal: the one place where a console is made, and text that it shows as it is."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

__all__ = ["PlainConsole", "as_markdown", "plain_console", "printable", "styled"]

# Control characters but for tab and line break: they move the cursor, or begin a command (ESC).
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MARKDOWN = re.compile(r"([\\`*\[\]|$~]|(?<!\w)_|_(?!\w))")


class PlainConsole(Console):
    """A console that shows every text as it is: no markup, no emoji codes, no control characters.

    Texts come from data, settings and errors. A class may be called `[/INST]` or `:warning:`.
    """

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401
        """A text, or the cell, title or heading of a table, with markup left as it is."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


def plain_console(**options: Any) -> PlainConsole:  # noqa: ANN401
    """A console for any text; `options` as for `rich.console.Console`."""
    return PlainConsole(**options, markup=False, emoji=False)


def styled(text: str, style: str) -> Text:
    """A text with a style of its own, such as `bold red`, for a console or a cell."""
    return Text(printable(text), style=style)


def printable(text: str) -> str:
    r"""The text with control characters spelt out; tabs and line breaks stay.

    Example:
        >>> print(printable("up\x1b[31m"))
        up\x1b[31m
    """
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def as_markdown(text: str) -> str:
    r"""The text on one line, so that Markdown and a cell of its tables show it as it is.

    Example:
        >>> print(as_markdown("a|b *c*"))
        a\|b \*c\*
    """
    found = MARKDOWN.sub(r"\\\1", printable(" ".join(text.split())))
    return found.replace("&", "&amp;").replace("<", "&lt;")
