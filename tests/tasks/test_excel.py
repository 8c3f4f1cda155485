"""Sheets of Excel books as data."""

from datetime import date, datetime
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.data.load import load, notes
from dao.learner.data.reading import excel
from dao.learner.data.reading.sources import is_hub_name, read
from dao.learner.data.reading.table import Columns
from dao.learner.data.texts import read_texts
from dao.learner.data.unseen import load_unseen
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.declared import task_settings

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture
def book(tmp_path: Path):
    def write(**sheets: list[list[object]]) -> str:
        made = openpyxl.Workbook()
        made.remove(made.active)
        for name, rows in sheets.items():
            page = made.create_sheet(name)
            for row in rows:
                page.append(row)
        made.save(tmp_path / "my.xlsx")
        return str(tmp_path / "my.xlsx")

    return write


def cells(source: str) -> dict[str, list[object]]:
    frame = read(source, Columns()).frame
    return {str(name): frame[name].tolist() for name in frame}


def test_cells_are_the_text_of_a_csv(book):
    rows = [
        ["text", "label", "score", "when", "id", None],
        ["rose", 3, 0.5, date(2024, 5, 1), "007", None],
        ["fell", 3.0, -1e-7, datetime(2024, 5, 1, 13, 30), None, None],
        [None, None, None, None, None, None],
        ["so", True, "0.25", None, "x", None],
        [None, None, None],
        [" ", None, None],
    ]
    assert cells(book(data=rows)) == {
        "text": ["rose", "fell", "so"],
        "label": ["3", "3", "True"],
        "score": ["0.5", "-1e-07", "0.25"],
        "when": ["2024-05-01", "2024-05-01T13:30:00", ""],
        "id": ["007", "", "x"],
    }


def test_one_of_several_sheets_is_named_or_the_first_is_read(book):
    source = book(May=[["text", "label"], ["a", "up"]], June=[["text", "label"], ["b", "down"]])
    assert cells(source)["text"] == ["a"]
    assert cells(f"{source}:June")["text"] == ["b"]
    assert read(f"{source}:June", Columns()).said == ()
    (line,) = read(source, Columns()).said
    assert line == "read from its first sheet, `May`; FILE.xlsx:SHEET names one of the others, June"
    assert not is_hub_name("folder/my.xlsx:June")
    with pytest.raises(UserError, match=r"my\.xlsx should be .* no sheet 'july', only May, June"):
        read(f"{source}:july", Columns())


def test_books_train_and_are_predicted_and_measured(book):
    rows = [["text", "label"], *([f"text {i}", i % 2] for i in range(60))]
    source = book(data=rows, other=[["x"]])
    table = load([source], Columns(), tasks={"cls": task_settings("cls", {})})
    assert table.report["targets"]["cls"].keys() == {"0", "1"}
    said = f"{source}: read from its first sheet, `data`"
    assert any(line.startswith(said) for line in notes(table.report))
    texts = read_texts(source, Columns())
    assert (texts.number, list(texts.names)) == (60, ["text", "label"])
    assert [len(some) for _, some in texts.parts(50)] == [50, 10]
    assert texts.said[0].startswith(said)
    task = Classification("cls", "label", ["0", "1"])
    unseen = load_unseen([source], Columns(), tasks={"cls": task})
    assert unseen.report["labelled"]["cls"]["test"] == 60
    assert unseen.report["sources"][0]["said"]


def test_formulas_are_their_stored_values(book, tmp_path: Path):
    source = book(data=[["text", "label"], ["a", "=1+1"]])
    with pytest.raises(UserError, match=r"the formula '?=1\+1'? in row 2 without a value; open"):
        read(source, Columns())
    # What Excel writes has the value beside the formula.
    from zipfile import ZipFile

    with ZipFile(source) as made:
        parts = {name: made.read(name) for name in made.namelist()}
    page = "xl/worksheets/sheet1.xml"
    assert b"<f>1+1</f><v" in parts[page]
    parts[page] = parts[page].replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
    parts[page] = parts[page].replace(b"<v/>", b"<v>2</v>")
    with ZipFile(tmp_path / "stored.xlsx", "w") as stored:
        for name, content in parts.items():
            stored.writestr(name, content)
    assert cells(str(tmp_path / "stored.xlsx"))["label"] == ["2"]


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"text,label\n", "a damaged file, or none of Excel: File is not a zip file"),
        (b"\xd0\xcf\x11\xe0 secret", "with a password, or one of Excel before 2007; save it as"),
        (b"PK\x05\x06" + bytes(18), "a damaged file, or none of Excel"),
        (b"  ", "Found an empty file"),
    ],
)
def test_what_is_no_book_is_refused_in_one_line(tmp_path: Path, content: bytes, answer: str):
    path = tmp_path / "my.xlsx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=answer) as caught:
        read(str(path), Columns())
    assert "\n" not in str(caught.value)


def test_a_book_that_was_cut_is_refused(book):
    path = Path(book(data=[["text", "label"], *([f"text {i}", i] for i in range(500))]))
    whole = path.read_bytes()
    for size in range(100, len(whole), 997):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"should be valid XLSX"):
            read(str(path), Columns())


def test_sheets_that_are_no_table_are_refused(book):
    with pytest.raises(UserError, match="a cell in row 2 at place 3 under 2 column names"):
        read(book(data=[["text", "label"], ["a", "up", "x"]]), Columns())
    with pytest.raises(UserError, match="two columns of one name among text, text"):
        read(book(data=[["text", "text"], ["a", "up"]]), Columns())
    with pytest.raises(UserError, match="Found none"):
        read(book(data=[[], []]), Columns())


def test_without_openpyxl_the_extra_is_named(book, monkeypatch: pytest.MonkeyPatch):
    source = book(data=[["text", "label"], ["a", "up"]])
    monkeypatch.setattr(excel, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"openpyxl\. Found it not installed\. Run: pip install .*"):
        read(source, Columns())
