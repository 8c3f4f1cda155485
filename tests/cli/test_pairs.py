"""Real runs on pairs of texts: trained, broken off, read again, asked.

A file in ONNX that takes pairs is in `test_any_tasks.py`.
"""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

KEYS = ("profit", "loss", "sales", "costs")
SETTINGS = (
    "data.text=[premise,hypothesis]", "encoder.precision=fp32", "train.page=false",
    "train.epochs=2",
    "train.batch_size=20", "train.lr=0.003", "train.validations_per_epoch=1",
    "train.checkpoint_every=2", "encoder.scratch.when=always", "encoder.tune=full",
    *(f"encoder.scratch.{entry}" for entry in
      ("layers=1", "width=16", "heads=2", "intermediate=32", "vocabulary=300")),
)  # fmt: skip


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The label says whether the key word of the premise is that of the hypothesis."""
    rng, rows = random.Random(0), []
    for i in range(120):
        key, same = rng.choice(KEYS), rng.random() < 0.5
        other = key if same else rng.choice([k for k in KEYS if k != key])
        split = "train" if i < 80 else "validation" if i < 100 else "test"
        rows.append((f"=the {key} of quarter {i}", f"{other}, it said", "ny"[same], split))
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    names = ["premise", "hypothesis", "label", "split"]
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


def train(table: Path, output: Path, *more: str) -> Result:
    from train import app

    fixed = ("--tasks", "label:classification", "--data", str(table), "--output", str(output))
    return CliRunner().invoke(app, [*fixed, *SETTINGS, *more], catch_exceptions=False)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pairs"
    result = train(table, folder)
    assert result.exit_code == 0, result.output
    assert "[SEP] between the two, token types 0 and 1" in result.output
    return folder


def written(run: Path) -> list[dict[str, str]]:
    with open(run / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_show_both_texts_and_no_separator(run: Path):
    assert b"\x1f" not in (run / "predictions.csv").read_bytes()
    first = written(run)[0]
    assert list(first)[:3] == ["id", "text", "text_pair"]
    assert first["text"].startswith("'=the ")
    assert first["text_pair"].endswith(", it said")
    assert "a pair of texts: `premise` and `hypothesis`" in (run / "README.md").read_text()


def test_a_saved_run_gives_its_predictions_again(run: Path, table: Path, tmp_path: Path):
    metrics = json.loads((run / "metrics.json").read_text())["splits"]["test"]
    result = evaluate(run, "--format", "json")
    assert json.loads(result.stdout)["splits"]["test"] == metrics
    output = tmp_path / "again.csv"
    result = evaluate(run, "--input", table, "--output", output)
    assert result.exit_code == 0, result.output
    again, own = pd.read_csv(output), pd.read_csv(run / "predictions.csv")
    again = again[again["split"] == "test"]
    assert list(again)[:4] == ["premise", "hypothesis", "label", "split"]
    assert not {"text", "text_pair"} & {*again}
    assert again["label_2"].tolist() == own["label"].tolist()
    assert again["label_p_y"].tolist() == pytest.approx(own["label_p_y"].tolist(), abs=1e-6)


def test_typed_pairs_get_the_predictions_of_the_file(run: Path):
    first, second = written(run)[:2]
    asked = []
    for row in (first, second):
        asked += ["--text", row["text"].removeprefix("'"), "--text-pair", row["text_pair"]]
    result = evaluate(run, *asked)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert list(found[0])[:2] == ["text", "text_pair"]
    assert found[1]["text_pair"] == second["text_pair"]
    for row, own in zip(found, (first, second), strict=True):
        assert row["label_p_y"] == pytest.approx(float(own["label_p_y"]), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "a"), "--text should come with --text-pair"),
        (("--data", "TABLE", "data.text=premise"), "should be [COLUMN,COLUMN]"),
        (("--input", "TABLE", "data.text=[premise,other]"), "`other` should be a column of"),
    ],
)
def test_what_is_no_pair_is_refused_in_one_line(run: Path, table: Path, arguments, said: str):
    result = evaluate(run, *(str(table) if a == "TABLE" else a for a in arguments))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_as_many_second_texts_as_first(run: Path):
    assert evaluate(run, "--text", "a", "--text-pair", "b", "--text-pair", "c").exit_code == 2
    assert evaluate(run, "--text-pair", "b").exit_code == 2
    assert evaluate(run, "--text", "a", "--text-pair", " ").exit_code == 2


@pytest.mark.slow
def test_a_run_on_pairs_resumes_exactly(
    run: Path, table: Path, tmp_path: Path, stop_before: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    from train import app

    folder = tmp_path / "run"
    stop_before(5)
    assert train(table, folder).exit_code == 130
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert written(folder) == written(run)


def test_an_inner_separator_is_found_before_there_is_a_folder(
    table: Path, tmp_path: Path, run: Path
):
    frame = pd.read_csv(table)
    frame.loc[3, "premise"] = "profit [SEP] loss"
    frame.to_csv(tmp_path / "odd.csv", index=False)
    named = (f"encoder.name={run / 'encoder'}", "encoder.scratch.when=never")
    result = train(tmp_path / "odd.csv", tmp_path / "run", *named)
    assert result.exit_code == 1
    assert "Found it in 'profit [SEP] loss'" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_comparing_the_two_texts_is_learnt(tmp_path: Path):
    """No word tells the label: a plain model that sees the words of both is left far behind."""
    rng, rows = random.Random(1), []
    for i in range(280):
        key, same = rng.choice(KEYS), rng.random() < 0.5
        other = key if same else rng.choice([k for k in KEYS if k != key])
        split = "train" if i < 200 else "validation" if i < 230 else "test"
        rows.append((f"the {key} {i}", f"{other} {i + 1}", "ny"[same], split))
    names = ["premise", "hypothesis", "label", "split"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "many.csv", index=False)
    pretrained = ("encoder.scratch.when=never", "encoder.tune=lora", "train.lr=0.002")
    more = ("train.epochs=4",)
    result = train(tmp_path / "many.csv", tmp_path / "run", *pretrained, *more)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    accuracy = found["splits"]["test"]["label"]["accuracy"]
    plain = found["baselines"]["test"]["label"]
    assert accuracy > 0.85
    assert all(figures["accuracy"] < accuracy - 0.15 for figures in plain.values())
