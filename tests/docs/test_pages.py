"""README and docs: short, linked, and complete about the settings."""

import re
from pathlib import Path

import pytest

from docs.extensions.outside import as_files
from docs.extensions.reference_pages import MARKER, PAGES, commands, sections, settings

ROOT = Path(__file__).parents[2]
SITE = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE]
MOST = 9_000
"""Bytes of the README: what a stranger reads in a minute or two."""


def shown(path: Path) -> str:
    """A page with what is generated into it, without its blocks of code."""
    text = path.read_text()
    if path in SITE and path.stem in PAGES:
        text = text.replace(MARKER, PAGES[path.stem]())
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", shown(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(path: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`", shown(path)))
    return [link for link in found if not link.startswith(("http://", "https://"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= MOST


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(path: Path):
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_site_hands_out_what_is_no_page_of_it():
    page = (
        "[all](../results/README.md#runs), [plan](../configs/quick.yaml), [rule](dao.md#the-rule)"
    )
    marked = (
        "[all](path:../results/README.md), [plan](../configs/quick.yaml), [rule](dao.md#the-rule)"
    )
    assert as_files(page) == marked


def test_there_are_links():
    assert sum(len(links(path)) for path in DOCUMENTS) > 80


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = {line for block in re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL)
              for line in block.splitlines() if line and not line.startswith(":")}  # fmt: skip
    assert listed == {path.stem for path in SITE} - {"index"}


def test_every_setting_is_told():
    keys = [(prefix + key, found) for _, prefix, _, fields in sections() for key, found in fields]
    untold = [key for key, found in keys if not (found.description or "").strip()]
    assert not untold
    assert {"encoder.lora.r", "TASK.select_by", "dendrites.restart_lr", "seed"} <= {*dict(keys)}
    assert all(f"\n`{key}`\n: " in settings() for key, _ in keys)


def test_a_setting_is_told_with_what_it_takes():
    page = settings()
    assert "`encoder.lora.r`\n: a whole number, at least 1; default `8`" in page
    assert "`dendrites.grow_at`\n: a list of numbers, above 0 and below 1; default `[0.5]`" in page
    assert "`data.fractions`\n: a list of 3 numbers, above 0 and below 1; default" in page
    assert "`train.batch_tokens`\n: a whole number or null, at least 1; default null" in page


def test_every_command_is_told():
    page = commands()
    for heading in ("dao train", "dao predict", "dao experiment", "python evaluate.py"):
        assert f"# `{heading}`" in page
    assert "--merge-experts" in page
    assert "**Commands**" not in page
    assert (
        "Test two runs, or two folders of runs, against each other on the same test rows." in page
    )


def test_every_term_is_in_the_glossary_once():
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^(\S.*)\n  \S", glossary, re.MULTILINE)
    assert len(terms) == len(set(terms)) > 50
    for path in SITE:
        for used in re.findall(r"{term}`(?:[^`<]* <)?([^`>]+)>?`", path.read_text()):
            assert used in terms, (path.name, used)
