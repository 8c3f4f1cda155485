"""Links to Markdown files outside docs/, which are pages on GitHub and are no pages of the site.

The site hands them out as files: MyST does so where a link begins with `path:`.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["as_files", "setup"]

OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]+\.md)(?:#[^)\s]*)?\)")


def as_files(source: str) -> str:
    """The page with these links marked.

    Example:
        >>> as_files("[all](../results/README.md#runs) and [rule](dao.md)")
        '[all](path:../results/README.md) and [rule](dao.md)'
    """
    return OUTSIDE.sub(r"](path:\1)", source)


def _mark(_app: "Sphinx", _page: str, source: list[str]) -> None:
    source[0] = as_files(source[0])


def setup(app: "Sphinx") -> dict[str, bool]:
    """Mark the links as Sphinx reads the pages."""
    app.connect("source-read", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
