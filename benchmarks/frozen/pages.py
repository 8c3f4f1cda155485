"""What the pages of all studies share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["plan_lines", "table_head"]


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """The plan as it was written before the first run: words, settings, revision."""
    settings = json.dumps(plan["settings"], indent=1, ensure_ascii=False)
    return [
        "## The plan, as written before the first run",
        "",
        str(plan["about"]),
        "",
        "```json",
        settings,
        "```",
        "",
        f"Revision {plan['revision']}, torch {plan['torch']}, Python {plan['python']}. "
        "`runs.jsonl` has a line per run.",
    ]


def table_head(heads: Sequence[str]) -> str:
    """The first two lines of a Markdown table.

    Example:
        >>> print(table_head(["weighting", "seconds"]))
        | weighting | seconds |
        |---|---|
    """
    return f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|"
