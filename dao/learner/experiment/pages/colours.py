"""The colours of pictures in a page, which stand out from light and from dark paper."""

from __future__ import annotations

import re

from matplotlib.colors import to_hex, to_rgb

from dao.learner.experiment.pictures.figures import COLOURS, GRID, INK

__all__ = ["DARK", "LIGHT", "contrast", "declared", "readable", "themed"]

LIGHT, DARK = "#ffffff", "#16171a"
"""The paper of both themes."""
LEAST = 3.0
"""Contrast that lines and points need (WCAG 2.2, 1.4.11)."""
STEPS = 50


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21 (WCAG 2.2).

    Example:
        >>> contrast("#ffffff", "#000000")
        21.0
    """
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable(colour: str, paper: str) -> str:
    """The colour, mixed with as much black or white as gives it `LEAST` contrast with the paper.

    Example:
        >>> readable("#0072B2", "#ffffff"), readable("#E69F00", "#ffffff") == "#E69F00"
        ('#0072b2', False)
    """
    end = 0.0 if _luminance(paper) > 0.5 else 1.0
    for step in range(STEPS + 1):
        share = step / STEPS
        mixed = to_hex([(1 - share) * c + share * end for c in to_rgb(colour)])
        if contrast(mixed, paper) >= LEAST:
            break
    return mixed


def declared(paper: str) -> str:
    """CSS variables with the colours for this paper."""
    return " ".join(f"{_name(c)}: {readable(c, paper)};" for c in COLOURS)


def themed(drawn: str) -> str:
    """A drawing whose colours are variables, so that they follow the theme of the page."""
    names = {INK: "--ink", GRID: "--grid"} | {colour: _name(colour) for colour in COLOURS}
    for colour, name in names.items():  # as a value of a style, never in a text
        drawn = re.sub(rf'(: |"){colour}(?=[;"])', rf"\1var({name})", drawn, flags=re.IGNORECASE)
    return drawn


def _name(colour: str) -> str:
    return f"--c{colour[1:].lower()}"
