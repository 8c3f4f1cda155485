"""Cells of a .csv file that are separated by something else than commas."""

from pathlib import Path

import pytest

from dao.learner.data.load import Columns, load, notes
from dao.learner.data.reading.hints import separator_of
from dao.learner.data.reading.sources import read
from dao.learner.data.texts import read_texts
from dao.learner.kinds.declared import task_settings

ROWS = [[f"profit, rose {i}; so", "up" if i % 2 else "down", f"{i},5"] for i in range(40)]


def quoted(mark: str) -> str:
    lines = [["text", "label", "score"], *ROWS]
    return "\n".join(mark.join(f'"{cell}"' for cell in row) for row in lines) + "\n"


@pytest.mark.parametrize(("mark", "said"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "`|`")])
def test_another_separator_is_seen_and_said(tmp_path: Path, mark: str, said: str):
    path = tmp_path / "a.csv"
    path.write_text(quoted(mark))
    raw = read(str(path), Columns())
    assert raw.frame.to_numpy().tolist() == ROWS
    assert raw.said == (f"{said} separates its cells, by its first line",)
    texts = read_texts(str(path), Columns())
    assert [some[0] for _, some in texts.parts(1)] == [row[0] for row in ROWS]
    assert texts.said == (f"{path}: {raw.said[0]}",)


def test_a_table_of_excel_in_a_country_with_decimal_commas(tmp_path: Path):
    """Semicolons, decimal commas and Windows-1252 in one file."""
    path = tmp_path / "a.csv"
    path.write_bytes("".join(["text;score\r\n", *(f"groß {i};{i},5\r\n" for i in range(40))])
                     .encode("windows-1252"))  # fmt: skip
    tasks = {"score": task_settings("score", {})}
    found = load([str(path)], Columns(targets={"score": "score"}), tasks=tasks)
    assert sorted(found.frame["score"]) == [i + 0.5 for i in range(40)]
    said = notes(found.report)
    assert any("a semicolon separates its cells" in line for line in said)
    assert any("windows-1252" in line for line in said)
    assert any("decimal commas in 40 rows" in line for line in said)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("text", ","), ("", ","), ("text,label;score", ","), ("\n\ntext;label", ";"),
        ('"a, b";label', ";"), ('"a; b",label', ","), ('"a; b"', ","), ("a|b\tc", "\t"),
    ],
)  # fmt: skip
def test_what_a_first_line_says(tmp_path: Path, line: str, expected: str):
    path = tmp_path / "a.csv"
    path.write_text(line)
    assert separator_of(path, "utf-8") == expected
    assert separator_of(path, "ascii") == expected


def test_a_tsv_file_has_tabs(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("text;label\ngo;up\n")
    assert read(str(path), Columns()).frame.columns.tolist() == ["text;label"]
