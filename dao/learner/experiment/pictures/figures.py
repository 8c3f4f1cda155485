"""Panels, each a set of axes, as SVG inside a page or together as a PNG beside the page."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any
from zlib import crc32

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "GRID",
    "INK",
    "Panel",
    "arm_style",
    "columns",
    "head",
    "png",
    "svg",
    "task_style",
]

# In a page, the colours of the reader's theme replace these two, which are therefore unusual.
INK, GRID = "#1b1b1f", "#c4c4c9"
# Colours of Okabe and Ito (2008), which colour-blind readers tell apart. Marker and dash tell arms
# apart as well.
ARM_STYLES: Mapping[str, tuple[str, str, str]] = {
    "this model": ("#0072B2", "o", "-"),
    "base": (INK, "o", "-"),
    "dao": ("#0072B2", "s", "-"),
    "dendrites": ("#D55E00", "^", "-"),
    "dao+dendrites": ("#CC79A7", "D", "-"),
    "sham": ("#E69F00", "v", "--"),
    "capacity": ("#009E73", "P", "--"),
    "restart-lr": ("#56B4E9", "X", "--"),
    "dao-paper": ("#7A5195", "*", "-."),
}
ALONE_COLOURS = ("#56B4E9", "#8C564B", "#7F7F7F", "#17BECF", "#BCBD22")
ALONE_MARKERS = ("X", "<", ">", "h", "p", "d", "8")
TASK_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", INK,
)  # fmt: skip
COLOURS = tuple(
    dict.fromkeys([
        *(colour for colour, _, _ in ARM_STYLES.values() if colour != INK), *ALONE_COLOURS,
        *(colour for colour in TASK_COLOURS if colour != INK),
    ])
)  # fmt: skip
"""Every colour of a line or point but `INK`."""
DASHES = ("-", "--", "-.", ":")
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "butt",  # an interval ends where it ends, however thick its line
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # names from data may hold a dollar sign
}
DPI = 130
HEAD = 30  # characters of a line of a title that stands beside the names of rows
NARROW = (4.3, 3.4)  # inches; on a phone one panel fills the width at its own size


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Args:
        draw: draws on the axes, labels included.
        alt: what the panel shows, for readers who cannot see it.
        size: width and height in inches.
    """

    draw: Callable[[Axes], None]
    alt: str
    size: tuple[float, float] = NARROW


def arm_style(arm: str) -> dict[str, Any]:
    """Colour, marker and dash of an arm, as matplotlib's keywords.

    An arm of one task alone has a style that follows from the task's name.

    Example:
        >>> arm_style("dao")["color"], arm_style("topic") == arm_style("topic")
        ('#0072B2', True)
    """
    place = crc32(arm.encode())
    alone = ALONE_COLOURS[place % len(ALONE_COLOURS)], ALONE_MARKERS[place % len(ALONE_MARKERS)]
    colour, marker, dash = ARM_STYLES.get(arm, (*alone, ":"))
    return {"color": colour, "marker": marker, "linestyle": dash}


def task_style(index: int) -> dict[str, Any]:
    """Colour and dash of the task at this place.

    The first 8 tasks have colours of their own; 32 tasks have distinct pairs of colour and dash.

    Example:
        >>> task_style(0)["color"] == task_style(8)["color"], task_style(8)["linestyle"]
        (True, '--')
    """
    colours = len(TASK_COLOURS)
    dash = DASHES[(index + index // colours) % len(DASHES)]
    return {"color": TASK_COLOURS[index % colours], "linestyle": dash}


@contextmanager
def _style() -> Iterator[None]:
    # perforatedai sets styles of its own for the whole process.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def svg(panel: Panel, key: str) -> str:
    """One panel as an `svg` element that refers to nothing outside.

    Args:
        panel: what to draw.
        key: unique in the page; prefixes all ids.
    """
    file = io.StringIO()
    with _style(), matplotlib.rc_context({"svg.hashsalt": key}):
        figure = _figure([panel], 1)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, dpi=200, metadata=nothing)
    return _inline(file.getvalue(), key, panel)


def head(axes: Axes, title: str) -> None:
    """A bold title above the left end of the axes, in lines that fit beside the names of rows."""
    axes.set_title(textwrap.fill(title, HEAD), loc="left", fontweight="bold")


def columns(panels: Sequence[object]) -> int:
    """How many panels to put side by side where there is room."""
    return len(panels) if len(panels) < 4 else 2 if len(panels) == 4 else 3


def png(panels: Sequence[Panel]) -> bytes:
    """All panels in one opaque picture."""
    file = io.BytesIO()
    with _style():
        figure = _figure(panels, columns(panels))
        FigureCanvasAgg(figure)
        figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()


def _figure(panels: Sequence[Panel], across: int) -> Figure:
    rows = math.ceil(len(panels) / across)
    width = across * max(p.size[0] for p in panels)
    height = rows * max(p.size[1] for p in panels)
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    named: dict[str, Any] = {}
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, across, index + 1)
        panel.draw(axes)
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    if named:
        room = 50 * across  # characters and handles that fit in a line of the legend
        each = max(len(name) for name in named) + 7
        figure.legend(
            named.values(), named.keys(), loc="outside lower center",
            ncols=max(1, min(len(named), room // each)), columnspacing=1.2,
            handlelength=2.2,
        )  # fmt: skip
    # Left to `savefig`, the layout would cost one more drawing, which nobody sees.
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def _inline(text: str, key: str, panel: Panel) -> str:
    # The prolog, the metadata and the fixed size, which would keep the picture from shrinking, go.
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', body)
    body = body[body.index(">") + 1 :]
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{key}-', body)
    body = body.replace("url(#", f"url(#{key}-").replace('xlink:href="data:', 'href="data:')
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", body)
    name = escape(panel.alt, quote=True)
    return f'<svg role="img" aria-label="{name}" {box[0] if box else ""}>{body}'
