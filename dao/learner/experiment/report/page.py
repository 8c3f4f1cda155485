"""A report's parts as one self-contained HTML page and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dao.learner.console.terminal import as_markdown
from dao.learner.experiment.pictures.figures import Panel, columns, svg

__all__ = [
    "Bullets",
    "PageFigure",
    "PageTable",
    "Part",
    "Picture",
    "Section",
    "Text",
    "html",
    "markdown",
]

# A page fetches nothing and runs nothing, whatever is in the data.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1b1f; --soft: #55555c;
  --grid: #c4c4c9; --line: #dcdce0; --band: #f4f4f6; --link: #005a96;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { --paper: #16171a; --ink: #ececf0; --soft: #a9a9b2;
  --grid: #45464d; --line: #37383e; --band: #1f2024; --link: #7cc4f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(.9rem, 3vw, 2.5rem) 4rem; max-width: 78rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 var(--font);
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
p, ul { max-width: 48rem; margin: .5rem 0; }
ul { padding-left: 1.2rem; }
a { color: var(--link); }
nav { font-size: .875rem; color: var(--soft); }
nav a { display: inline-block; padding: .2rem .7rem .2rem 0; }
.lead { font-size: 1.0625rem; }
summary { cursor: pointer; }
.note, figcaption, caption, summary { color: var(--soft); font-size: .875rem; }
figure { margin: 1rem 0; }
figcaption { max-width: 48rem; }
.panels { display: grid; gap: 1.25rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20.5rem), 1fr)); }
.panels.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
.panels svg { display: block; width: 100%; max-width: 31rem; height: auto; }
.picture { background: #ffffff; border-radius: 6px; padding: .5rem; }
.picture img { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 1.5rem; font-size: .8125rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .35rem .4rem; text-align: right; vertical-align: top; overflow-wrap: normal;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { vertical-align: bottom; color: var(--soft); }
th:first-child { min-width: 9.5rem; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; padding-left: 0; }
tbody tr:hover { background: var(--band); }
.words th, .words td { text-align: left; overflow-wrap: anywhere; }
@media (max-width: 70rem) {
  .many thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px;
    overflow: hidden; }
  table { font-size: .875rem; }
  .many, .many :is(caption, tbody, tr, th, td) { display: block; }
  .many tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .many tbody th, .many td { border: 0; padding: .1rem 0; text-align: left;
    overflow-wrap: anywhere; }
  .many td { display: grid; grid-template-columns: minmax(7rem, 38%) 1fr; gap: .6rem; }
  .many td:empty { display: none; }
  .many td::before { content: attr(data-label); color: var(--soft); } }
"""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain words; a `quiet` one is shown as a remark."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class PageTable:
    """A table with cells of plain text; the first column names the row.

    Attributes:
        caption: above the table.
        head: the heading of each column.
        rows: the cells of each row.
        words: whether all cells are words, which stand on the left.
        folded: whether the page shows the table only when a reader opens it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False
    folded: bool = False


@dataclass(frozen=True)
class PageFigure:
    """Panels; the page has them drawn in, and the Markdown links to the PNG at `path`."""

    path: str
    panels: Sequence[Panel]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A picture that exists as a PNG."""

    path: str
    content: bytes
    alt: str
    caption: str


Part = Text | Bullets | PageTable | PageFigure | Picture


@dataclass(frozen=True)
class Section:
    """A heading and the parts below it."""

    title: str
    parts: Sequence[Part]


def html(title: str, sections: Sequence[Section]) -> str:
    """All sections as one page, which has no script and refers to nothing outside.

    Args:
        title: heading of the page.
        sections: the first is the lead, whose heading is not shown.
    """
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections[1:])
    lead, *rest = ("\n".join(_html(part, f"{_anchor(s.title)}-{i}") for i, part in
                             enumerate(s.parts)) for s in sections)  # fmt: skip
    body = "\n".join(
        f'<section id="{_anchor(s.title)}"><h2>{escape(s.title)}</h2>\n{content}\n</section>'
        for s, content in zip(sections[1:], rest, strict=True)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<div class="lead">\n{lead}\n</div>\n<nav aria-label="Sections">{links}</nav>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _html(part: Part, key: str) -> str:
    match part:
        case Text(text, quiet):
            kind = ' class="note"' if quiet else ""
            return f"<p{kind}>{escape(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case PageTable():
            return _html_table(part)
        case PageFigure(_, panels, caption):
            two = " two" if columns(panels) == 2 else ""
            drawn = "\n".join(svg(panel, f"{key}-{i}") for i, panel in enumerate(panels))
            return (
                f'<figure>\n<div class="panels{two}">\n{drawn}\n</div>\n'
                f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
            )
        case Picture(_, content, alt, caption):
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            return (
                f'<figure>\n<div class="picture"><img alt="{escape(alt)}" src="{source}"></div>\n'
                f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
            )


def _html_table(table: PageTable) -> str:
    # Narrow screens stack the cells of a row, by which browsers forget what is a row or a cell. So
    # the roles are spelt out.
    head = "".join(f'<th scope="col" role="columnheader">{escape(h)}</th>' for h in table.head)
    rows = []
    for name, *cells in table.rows:
        rest = "".join(
            f'<td role="cell" data-label="{escape(label)}">{_span(cell)}</td>'
            for label, cell in zip(table.head[1:], cells, strict=True)
        )
        rows.append(
            f'<tr role="row"><th scope="row" role="rowheader">{escape(name)}</th>{rest}</tr>'
        )
    kinds = ("many" if len(table.head) > 2 else "", "words" if table.words else "")
    body = "\n".join(rows)
    caption = escape(table.caption)
    shown = (
        f'<table role="table" class="{" ".join(filter(None, kinds))}">\n'
        f"{'' if table.folded else f'<caption>{caption}</caption>'}\n"
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}\n</tbody>\n</table>'
    )
    if not table.folded:
        return shown
    return f"<details><summary>{caption}</summary>\n{shown}\n</details>"


def _span(cell: str) -> str:
    return f"<span>{escape(cell)}</span>" if cell else ""


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same sections as Markdown, which links to its figures as PNG files beside it."""
    lines = [f"# {as_markdown(title)}", ""]
    for index, section in enumerate(sections):
        if index:
            lines += [f"## {as_markdown(section.title)}", ""]
        for part in section.parts:
            lines += [_markdown(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(part: Part) -> str:
    match part:
        case Text(text, _):
            return as_markdown(text)
        case Bullets(items):
            return "\n".join(f"- {as_markdown(item)}" for item in items)
        case PageTable(caption, head, rows, words):
            side = "---" if words else "---:"
            lines = [head, ["---", *[side] * (len(head) - 1)], *rows]
            cells = [
                [as_markdown(c) if i != 1 else c for c in line] for i, line in enumerate(lines)
            ]
            return f"{as_markdown(caption)}\n\n" + "\n".join(f"| {' | '.join(c)} |" for c in cells)
        case PageFigure(path, panels, caption):
            alt = "; ".join(panel.alt.partition(". ")[0].rstrip(".") for panel in panels)
            return f"![{as_markdown(alt)}]({path})\n\n{as_markdown(caption)}"
        case Picture(path, _, alt, caption):
            return f"![{as_markdown(alt)}]({path})\n\n{as_markdown(caption)}"
