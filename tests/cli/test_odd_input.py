"""Odd but legal input trains; what is written is safe to open."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

MANY = Path(__file__).with_name("many_rows.py")
SMALL = (
    "encoder.precision=fp32",
    "train.page=false",
    "train.epochs=1",
    "train.batch_size=20",
    "train.lr=0.01",
)
FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)")


def table(path: Path, **changes: list[object]) -> Path:
    """Forty rows; `changes` replace the first cells of a column."""
    count = 40
    rows = pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(count)],
            "text": [f"profit {'rose' if i % 2 else 'fell'} in quarter {i}" for i in range(count)],
            "label": ["up" if i % 2 else "down" for i in range(count)],
            "score": [f"{(i % 2) - 0.5 + i / 1000}" for i in range(count)],
            "split": ["train"] * 20 + ["validation"] * 8 + ["test"] * 12,
        }
    )
    for name, cells in changes.items():
        rows[name] = rows.get(name, pd.Series([""] * count)).astype(object)
        rows.loc[list(range(count - len(cells), count)), name] = cells
    rows.to_csv(path, index=False)
    return path


@pytest.fixture
def start(tiny_phi: Path, tmp_path: Path):
    from train import app

    def run(data: Path, *arguments: str, output: Path = tmp_path / "run") -> Result:
        fixed = ("--encoder", tiny_phi, "--data", data, "--output", output, *SMALL)
        return CliRunner().invoke(app, [*map(str, fixed), *arguments], catch_exceptions=False)

    return run


def test_formulas_are_defused_in_what_is_written(start, tmp_path: Path):
    from evaluate import app

    data = table(tmp_path / "data.csv", text=list(FORMULAS), id=["=1", "-7", "@x", "+5"])
    assert start(data, "--tasks", "cls").exit_code == 0
    with (tmp_path / "run" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows[-4:]] == [f"'{text}" for text in FORMULAS]
    assert [row["id"] for row in rows[-4:]] == ["'=1", "-7", "'@x", "+5"]  # numbers stay
    new, output = tmp_path / "new.csv", tmp_path / "out.csv"
    texts = [*FORMULAS, "\ttab", "\rreturn", "-4.5e3", "plain"]
    pd.DataFrame({"text": texts}).to_csv(new, index=False)
    arguments = [str(tmp_path / "run"), "--input", str(new), "--output", str(output)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with output.open(newline="") as file:
        found = [row["text"] for row in csv.DictReader(file)]
    assert found == [*(f"'{text}" for text in texts[:5]), "return", "-4.5e3", "plain"]


def test_a_tab_or_a_return_in_front_is_defused():
    from dao.learner.storage.files import csv_text

    frame = pd.DataFrame({"=name": ["\t=1", "\r=1", "", "1", "-"], "n": [-1.5, 2, 3, 4, 5]})
    header, *rows = csv.reader(io.StringIO(csv_text(frame), newline=""))
    assert header == ["'=name", "n"]
    assert [row[0] for row in rows] == ["'\t=1", "'\r=1", "", "1", "-"]
    assert [row[1] for row in rows] == ["-1.5", "2.0", "3.0", "4.0", "5.0"]


@pytest.mark.slow
def test_huge_cells_line_breaks_quotes_and_controls(start, tmp_path: Path):
    texts = [
        "profit " * 150_000,
        'one\ntwo\r\nthree "quoted", and',
        "rose \x1b[31m red",
        "≠ 利益 📈",
    ]
    data = table(tmp_path / "data.csv", text=texts)
    assert data.stat().st_size > 1_000_000
    result = start(data)
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert rows["text"].tolist()[-1] == "≠ 利益 📈"
    assert len(rows) == 12


@pytest.mark.parametrize("words", [("0", "1"), ("-1", "1"), ("1.0", "2"), ("True", "False")])
def test_labels_may_be_numbers_or_words(start, tmp_path: Path, words: tuple[str, str]):
    labels = [words[i % 2] for i in range(40)]
    data = table(tmp_path / "data.csv", label=labels)
    assert start(data, "--tasks", "cls").exit_code == 0
    classes = json.loads((tmp_path / "run" / "tasks.json").read_text())["cls"]["classes"]
    assert classes == sorted(word.removesuffix(".0") for word in words)
    rows = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype=str)
    assert set(rows["cls"]) <= set(classes)


def test_an_all_empty_further_column_does_no_harm(start, tmp_path: Path):
    data = table(tmp_path / "data.csv", domain=[""], remark=[""])
    assert start(data).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--dendrites", "train.batch_size=5", "train.epochs=2")])
def test_paths_with_spaces_and_other_letters(start, tmp_path: Path, flags):
    from evaluate import app

    folder = tmp_path / "Größe & 利益 'x' [a]"
    folder.mkdir()
    data = table(folder / "données (1).csv")
    result = start(data, *flags, f"cache={folder / 'çache'}", output=folder / "mein lauf")
    assert result.exit_code == 0, result.output
    again = CliRunner().invoke(app, [str(folder / "mein lauf"), "--format", "json"])
    assert again.exit_code == 0, again.output


@pytest.mark.slow
def test_many_rows_take_bounded_memory_and_show_progress(tiny_bert: Path, tmp_path: Path):
    """3.5 KiB a row, and 100 MiB for what is imported on the way."""
    command = [sys.executable, str(MANY), str(tmp_path), "40000", str(tiny_bert), "0.05"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    batches, before, after = map(float, result.stdout.split())
    assert batches == 1000
    assert after - before < 100 + 40_000 * 3.5 / 1024, result.stdout  # MiB
    for words in ("reading: ", "comparing texts: ", "fingerprint: ", "token ids: "):
        assert words in result.stderr, result.stderr


@pytest.mark.slow
def test_a_file_in_windows_1252_with_missing_labels(start, tmp_path: Path):
    from evaluate import app

    data = table(tmp_path / "data.csv", text=["Mäkinen", "x", "y"], label=["N/A", "none"])
    data.write_bytes(data.read_text().encode("windows-1252"))
    result = start(data, "--tasks", "cls", "data.missing=[N/A,none]")
    assert result.exit_code == 0, result.output
    assert f"{data}: read as windows-1252, because it is not UTF-8" in result.stderr
    assert "missing in `label`: N/A in 1 row, none in 1 row" in result.stderr
    assert json.loads((tmp_path / "run" / "tasks.json").read_text())["cls"]["classes"] == [
        "down", "up",
    ]  # fmt: skip
    assert "Mäkinen" in (tmp_path / "run" / "predictions.csv").read_text()
    new, run = table(tmp_path / "new.csv", label=["?"]), str(tmp_path / "run")
    new.write_bytes(("\ufeff" + new.read_text()).encode("utf-16-le"))
    again = CliRunner().invoke(app, [run, "--data", str(new), "--format", "json"])
    assert "Give data.encoding=utf-16" in again.stderr
    settings = ["data.encoding=utf-16", "data.missing=[?]", "--format", "json"]
    again = CliRunner().invoke(app, [run, "--data", str(new), *settings])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["splits"]["test"]["cls"]["n"] == 39


@pytest.mark.slow
def test_an_excel_book_with_percentages_is_learned_measured_and_predicted(start, tmp_path: Path):
    from evaluate import app

    openpyxl = pytest.importorskip("openpyxl")
    scores = [f"{i % 7},{i % 10} %" for i in range(37)]
    data = table(tmp_path / "data.csv", score=[*scores, "null", "None", "N/A"])
    book, path = openpyxl.Workbook(), tmp_path / "data.xlsx"
    with data.open(newline="") as file:
        for row in csv.reader(file):
            book.active.append(row)
    book.create_sheet("other")
    book.save(path)
    result = start(path, "--tasks", "reg")
    assert result.exit_code == 0, result.output
    for line in (
        f"{path}: read from its first sheet, `Sheet`",
        "reg: decimal commas in 37 rows, percent signs in 37 rows, read as numbers",
        "missing in `score`: null in 1 row, None in 1 row, N/A in 1 row",
    ):
        assert line in result.stderr
    run = str(tmp_path / "run")
    again = CliRunner().invoke(app, [run, "--data", f"{path}:Sheet", "--format", "json"])
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert found["splits"]["test"]["reg"]["n"] == 37
    assert any("percent signs in 37 rows" in line for line in found["notes"])
    output = tmp_path / "out.csv"
    predicted = CliRunner().invoke(app, [run, "--input", str(path), "--output", str(output)])
    assert predicted.exit_code == 0, predicted.output
    assert "read from its first sheet" in predicted.stderr
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), rows[3]["score"]) == (40, "3,3 %")
