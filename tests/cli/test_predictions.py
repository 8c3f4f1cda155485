"""What evaluate.py --input makes of a file, and what is read back of what a run wrote."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[2]
SIGNS = ("+", "-", "'+x")
ADDED = ["cls", "cls_p_negative", "cls_p_positive", "reg"]


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.fixture(scope="module")
def sign_run(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("signs")
    table = pd.DataFrame({"text": [f"=sum of profit {i}" for i in range(60)]})
    table["label"] = [SIGNS[i % 3] for i in range(60)]
    table["split"] = ["train"] * 30 + ["validation"] * 15 + ["test"] * 15
    table.to_csv(place / "signs.csv", index=False)
    output = place / "run"
    result = train(output, "--tasks", "cls", "train.epochs=1", data=place / "signs.csv")
    assert result.exit_code == 0, result.output
    return output


@pytest.mark.slow
def test_what_a_run_wrote_is_read_back(sign_run: Path, tmp_path: Path):
    written = sign_run / "predictions.csv"
    found = {row[2] for row in rows(written.read_text())[1:]}
    assert found == {"+", "-", "''+x"}
    result = evaluate(sign_run, "--data", written, "data.cls=cls_target", "--format", "json")
    assert result.exit_code == 0, result.output
    before = json.loads((sign_run / "metrics.json").read_text())["splits"]["test"]
    assert json.loads(result.stdout)["splits"]["test"]["cls"] == before["cls"]


def test_predictions_make_no_breakdown_of_a_report_on_them(sign_run: Path):
    shown = evaluate(sign_run, "--data", sign_run / "predictions.csv", "data.cls=cls_target",
                     "--format", "json")  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["slices"] == {"test": {}}


def test_predictions_of_predictions_keep_every_text(sign_run: Path, tmp_path: Path):
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    assert (
        evaluate(sign_run, "--input", sign_run / "predictions.csv", "--output", once).exit_code == 0
    )
    assert evaluate(sign_run, "--input", once, "--output", twice).exit_code == 0
    first, second = rows(once.read_text()), rows(twice.read_text())
    assert [row[1] for row in first[1:]] == [row[1] for row in second[1:]]
    assert first[1][1].startswith("'=sum")
    assert [name for name in second[0] if name.startswith("cls")] == [
        name + end
        for end in ("", "_2", "_3")
        for name in (
            *(() if end else ("cls_target",)), "cls", "cls_p_'+x", "cls_p_+", "cls_p_-",
            *(() if end else ("cls_row_score",)),
        )
    ]  # fmt: skip


def test_the_comparison_of_runs_reads_classes_back(sign_run: Path):
    from dao.learner.experiment.findings.runs import read_run

    frame = read_run(sign_run).predictions
    assert set(frame["cls_target"]) == set(SIGNS)
    assert frame["text"].str.startswith("=sum").all()


NEW = "when,id,text,score\n2024-01-02,007,net profit rose,1.50\n,b,sales fell,\n3,a,=cost,-2\n"


def test_every_column_of_the_input_stays_in_its_order(full_run: Path, tmp_path: Path):
    new, output = tmp_path / "new.csv", tmp_path / "out.csv"
    new.write_text(NEW)
    result = evaluate(full_run, "--input", new, "--output", output)
    assert result.exit_code == 0, result.output
    found, given = rows(output.read_text()), rows(NEW.replace("=cost", "'=cost"))
    assert [row[:4] for row in found] == given
    assert found[0][4:] == ADDED
    alone = json.loads(evaluate(full_run, "--text", "sales fell").stdout)
    assert found[2][4] == alone["cls"]
    assert float(found[2][7]) == pytest.approx(alone["reg"], abs=1e-5)


def test_the_input_is_not_written_over(full_run: Path, tmp_path: Path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nprofit rose\n")
    (tmp_path / "same.csv").symlink_to(texts)
    for output in (texts, tmp_path / "same.csv"):
        done = evaluate(full_run, "--input", texts, "--output", output)
        assert done.exit_code == 1
        assert f"Found {output} as both. Choose another --output." in done.stderr
    assert texts.read_text() == "text\nprofit rose\n"


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_other_formats_become_the_same_csv(full_run: Path, tmp_path: Path, ending: str):
    frame = pd.DataFrame({"n": [1, 2], "body": ["net profit rose", "sales fell"], "x": ["a", None]})
    new, output = tmp_path / f"new.{ending}", tmp_path / "out.csv"
    if ending == "tsv":
        frame.to_csv(new, sep="\t", index=False)
    elif ending == "jsonl":
        frame.to_json(new, orient="records", lines=True)
    else:
        frame.to_parquet(new)
    result = evaluate(full_run, "data.text=body", "--input", new, "--output", output)
    assert result.exit_code == 0, result.output
    found = rows(output.read_text())
    assert found[0] == ["n", "body", "x", *ADDED]
    assert [row[:3] for row in found[1:]] == [
        ["1", "net profit rose", "a"],
        ["2", "sales fell", ""],
    ]


def test_a_column_of_the_same_name_is_kept_and_the_new_one_named(full_run: Path, tmp_path: Path):
    new, output = tmp_path / "new.csv", tmp_path / "out.csv"
    new.write_text("reg,text,reg_2\nmine,net profit rose,too\n")
    result = evaluate(full_run, "--input", new, "--output", output)
    assert result.exit_code == 0, result.output
    assert "`reg` is a column of the input: the predictions are in `reg_3`" in result.stderr
    head, row = rows(output.read_text())
    assert head == ["reg", "text", "reg_2", *ADDED[:3], "reg_3"]
    assert row[:3] == ["mine", "net profit rose", "too"]


def test_without_output_a_pipe_gets_csv_and_nothing_else(full_run: Path, tmp_path: Path):
    new, output = tmp_path / "new.csv", tmp_path / "out.csv"
    new.write_text(NEW.replace("score", "reg"))
    piped = evaluate(full_run, "--input", new)
    assert evaluate(full_run, "--input", new, "--output", output).exit_code == 0
    assert piped.exit_code == 0
    assert piped.stdout == output.read_text()
    assert "reg_2" in piped.stderr


def test_a_terminal_gets_a_line_per_row(full_run: Path, tmp_path: Path, monkeypatch, capsys):
    from evaluate import main

    new = tmp_path / "new.csv"
    new.write_text(NEW)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    main(full_run, source=new)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in found] == ["007", "b", "a"]
    assert [*found[0]] == ["when", "id", "text", "score", *ADDED]


@pytest.mark.slow
def test_a_real_pipe_holds_the_table_alone(full_run: Path, tmp_path: Path, warm_python: str):
    new = tmp_path / "new.csv"
    new.write_text(NEW)
    command = [warm_python, str(ROOT / "evaluate.py"), str(full_run), "--input", str(new)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert len(rows(done.stdout)) == 4


@pytest.mark.parametrize("name", ["out.xlsx", "OUT.XLSX", "out.parquet", "out.json"])
def test_predictions_under_a_name_of_another_format_are_refused(
    full_run: Path, tmp_path: Path, name: str
):
    texts = tmp_path / "new.csv"
    texts.write_text("text\nprofit rose\n")
    result = evaluate(full_run, "--input", texts, "--output", tmp_path / name)
    assert result.exit_code == 1
    assert "--output should be a CSV file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / name).exists()
