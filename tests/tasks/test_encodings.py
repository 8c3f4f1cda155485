"""Files in Windows-1252, recognised where UTF-8 fails."""

from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.data.reading import hints
from dao.learner.data.reading.sources import read
from dao.learner.data.reading.table import Columns
from dao.learner.data.texts import read_texts

TEXT = 'text,label\n„Mäkinen“ groß“,up\n"5 €, so",down\n'


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TEXT),
        ("a.tsv", TEXT.replace(",", "\t")),
        ("a.jsonl", '{"text": "groß “"}\n{"text": "5 €"}\n'),
        ("a.json", '[{"text": "groß"}, {"text": "5 €"}]'),
    ],
)
def test_windows_1252_is_read_and_said(tmp_path: Path, monkeypatch, name, content, block):
    monkeypatch.setattr(hints, "BLOCK", block)
    path = tmp_path / name
    path.write_bytes(content.encode("windows-1252"))
    raw = read(str(path), Columns())
    assert "5 €" in raw.frame["text"].tolist()[1]
    assert "groß" in raw.frame["text"].tolist()[0]
    assert raw.said == (
        "read as windows-1252, because it is not UTF-8; data.encoding says another",
    )
    texts = read_texts(str(path), Columns())
    assert [some for _, some in texts.parts(1)] == [[t] for t in raw.frame["text"]]
    assert texts.said == (f"{path}: {raw.said[0]}",)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_utf_8_is_said_nothing_about(tmp_path: Path, monkeypatch, block):
    monkeypatch.setattr(hints, "BLOCK", block)
    path = tmp_path / "a.csv"
    path.write_text(TEXT, encoding="utf-8")
    raw = read(str(path), Columns())
    assert (raw.said, raw.frame["label"].tolist()) == ((), ["up", "down"])


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("text,label\nMäki,利益, 📈\n".encode() + b"\xe4,up\n", "give data.encoding=windows-1252"),
        (b"text,label\nM\x81ki\xe4,up\n", "give data.encoding=latin-1"),
        (b"text,label\nM\x07ki\xe4,up\n", "give data.encoding=windows-1252"),
        (TEXT.encode("utf-16"), "Give data.encoding=utf-16"),
    ],
)
def test_what_speaks_against_windows_1252_leaves_the_remedy(tmp_path: Path, content, answer):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    for reads in (read, read_texts):
        with pytest.raises(UserError, match=answer):
            reads(str(path), Columns())


def test_an_encoding_that_is_given_is_used(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\n利益,up\n".encode("shift-jis"))
    raw = read(str(path), Columns(encoding="shift-jis"))
    assert (raw.frame["text"].tolist(), raw.said) == (["利益"], ())
