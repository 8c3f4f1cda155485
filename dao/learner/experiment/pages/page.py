"""A report's parts as one self-contained HTML page and as Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dao.learner.basics.wording import count
from dao.learner.console.terminal import as_markdown
from dao.learner.experiment.pages.colours import themed
from dao.learner.experiment.pages.style import CSS, POLICY
from dao.learner.experiment.pictures.figures import Panel, columns, svg

__all__ = [
    "Answer",
    "Bullets",
    "Folded",
    "Mark",
    "PageFigure",
    "PageTable",
    "Part",
    "Picture",
    "Section",
    "Text",
    "Words",
    "html",
    "markdown",
]


@dataclass(frozen=True)
class Text:
    """A paragraph of plain words; a `quiet` one is shown as a remark."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Answer:
    """The sentence that a reader should see first."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A sentence that a reader should not miss, such as one on a plain model that is better."""

    text: str


@dataclass(frozen=True)
class Words:
    """What words of the page mean, shown when a reader opens it: word -> its meaning."""

    meanings: Mapping[str, str]


@dataclass(frozen=True)
class Bullets:
    """A list of plain sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class PageTable:
    """A table with cells of plain text; the first column names the row.

    The page shows the table when a reader opens it.

    Attributes:
        caption: above the table.
        head: the heading of each column.
        rows: the cells of each row.
        words: whether all cells are words, which stand on the left.
        opened: whether a reader finds it open.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False
    opened: bool = False


@dataclass(frozen=True)
class PageFigure:
    """Panels; the page has them drawn in, and the Markdown links to the PNG at `path`.

    Attributes:
        path: of the PNG, in the folder of the page.
        panels: the pictures.
        caption: below them.
        first: so many of them are seen at once, the others when a reader opens them; None: all.
    """

    path: str
    panels: Sequence[Panel]
    caption: str
    first: int | None = None


@dataclass(frozen=True)
class Picture:
    """A picture that exists as a PNG."""

    path: str
    content: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Folded:
    """Parts that the page shows when a reader opens them, under a title."""

    title: str
    parts: Sequence[Part]


Part = Text | Answer | Mark | Words | Bullets | PageTable | PageFigure | Picture | Folded


@dataclass(frozen=True)
class Section:
    """A heading and the parts below it, which a reader opens where it is `folded`."""

    title: str
    parts: Sequence[Part]
    folded: bool = False


def html(title: str, sections: Sequence[Section]) -> str:
    """All sections as one page, which has no script and refers to nothing outside.

    Args:
        title: heading of the page.
        sections: the first is the lead, whose heading is not shown.
    """
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections[1:])
    lead, *rest = (_parts(section.parts, _anchor(section.title)) for section in sections)
    body = "\n".join(map(_section, sections[1:], rest))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<div class="lead">\n{lead}\n</div>\n<nav aria-label="Sections">{links}</nav>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section, content: str) -> str:
    heading = f"<h2>{escape(section.title)}</h2>"
    if section.folded:
        inner = f'<details class="whole"><summary>{heading}</summary>\n{content}\n</details>'
    else:
        inner = f"{heading}\n{content}"
    return f'<section id="{_anchor(section.title)}">{inner}\n</section>'


def _parts(parts: Sequence[Part], key: str) -> str:
    return "\n".join(_html(part, f"{key}-{i}") for i, part in enumerate(parts))


def _folded(title: str, content: str, *, opened: bool = False) -> str:
    state = " open" if opened else ""
    return f"<details{state}><summary>{escape(title)}</summary>\n{content}\n</details>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _html(part: Part, key: str) -> str:
    match part:
        case Text(text, quiet):
            kind = ' class="note"' if quiet else ""
            return f"<p{kind}>{escape(text)}</p>"
        case Answer(text):
            unbroken = escape(text).replace(" %", "&nbsp;%")
            return f'<p class="answer">{unbroken}</p>'
        case Mark(text):
            return f'<p class="mark">{escape(text)}</p>'
        case Words(meanings):
            told = "".join(
                f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>"
                for word, meaning in meanings.items()
            )
            return _folded(_words_title(meanings), f"<dl>{told}</dl>")
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case PageTable():
            return _html_table(part)
        case PageFigure():
            return _html_figure(part, key)
        case Picture(_, content, alt, caption):
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            return (
                f'<figure>\n<div class="picture"><img alt="{escape(alt)}" src="{source}"></div>\n'
                f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
            )
        case Folded(title, parts):
            return _folded(title, _parts(parts, key))


def _words_title(meanings: Mapping[str, str]) -> str:
    return f"Words: {', '.join(meanings)}"


def _html_figure(figure: PageFigure, key: str) -> str:
    drawn = [themed(svg(panel, f"{key}-{i}")) for i, panel in enumerate(figure.panels)]
    first = len(drawn) if figure.first is None else figure.first
    shown = _grid(drawn[:first]) if first else ""
    if rest := drawn[first:]:
        title = count(len(rest), "more picture" if first else "picture")
        shown += "\n" + _folded(title, _grid(rest))
    return f"<figure>\n{shown}\n<figcaption>{escape(figure.caption)}</figcaption>\n</figure>"


def _grid(drawn: Sequence[str]) -> str:
    joined, two = "\n".join(drawn), " two" if columns(drawn) == 2 else ""
    return f'<div class="panels{two}">\n{joined}\n</div>'


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
    shown = (
        f'<table role="table" aria-label="{escape(table.caption, quote=True)}" '
        f'class="{" ".join(filter(None, kinds))}">\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{body}\n</tbody>\n</table>'
    )
    return _folded(table.caption, shown, opened=table.opened)


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
        case Text(text, _) | Answer(text):
            return as_markdown(text)
        case Mark(text):
            return f"**{as_markdown(text)}**"
        case Words(meanings):
            told = (f"- *{as_markdown(w)}*: {as_markdown(m)}" for w, m in meanings.items())
            return "\n".join(told)
        case Bullets(items):
            return "\n".join(f"- {as_markdown(item)}" for item in items)
        case PageTable(caption, head, rows, words, _):
            side = "---" if words else "---:"
            lines = [head, ["---", *[side] * (len(head) - 1)], *rows]
            cells = [
                [as_markdown(c) if i != 1 else c for c in line] for i, line in enumerate(lines)
            ]
            return f"{as_markdown(caption)}\n\n" + "\n".join(f"| {' | '.join(c)} |" for c in cells)
        case PageFigure(path, panels, caption, _):
            alt = "; ".join(panel.alt.partition(". ")[0].rstrip(".") for panel in panels)
            return f"![{as_markdown(alt)}]({path})\n\n{as_markdown(caption)}"
        case Picture(path, _, alt, caption):
            return f"![{as_markdown(alt)}]({path})\n\n{as_markdown(caption)}"
        case Folded(title, parts):
            return "\n\n".join([f"### {as_markdown(title)}", *map(_markdown, parts)])
