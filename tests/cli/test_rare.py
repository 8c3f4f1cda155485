"""A rare class at the command line: threshold, another run beside it, 8 bits on the disk."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner, Result

pytestmark = pytest.mark.slow


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def rare(train, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that is selected by the F1 of its rare class."""
    folder = tmp_path_factory.mktemp("rare") / "run"
    settings = ("encoder.tune=full", "cls.select_by=rare_f1", "cls.class_weights=balanced")
    more = ("train.schedule=step", "train.gamma=0.5", "train.lr=0.003")
    result = train(folder, "--tasks", "cls", "--encoder", str(tiny_bert), *settings, *more)
    assert result.exit_code == 0, result.output
    (folder.parent / "out.txt").write_text(result.stdout)
    return folder


def test_the_report_shows_the_rare_class_beside_plain_models(rare: Path):
    shown = (rare.parent / "out.txt").read_text()
    for words in ("cls rare_f1 ↑", "cls rare_pr_auc ↑", "always ", "majority class"):
        assert words in shown
    metrics = json.loads((rare / "metrics.json").read_text())
    test = metrics["splits"]["test"]["cls"]
    task = json.loads((rare / "tasks.json").read_text())["cls"]
    assert test["rare_f1"] == test["per_class"][task["positive"]]["f1"]
    scores = [json.loads(line) for line in (rare / "validation.jsonl").read_text().splitlines()]
    selected = max(scores, key=lambda row: row["score"])
    assert selected["step"] == metrics["training"]["selected_after_step"]
    assert selected["score"] == metrics["splits"]["validation"]["cls"]["rare_f1"]


def test_the_learning_rate_falls_in_steps(rare: Path):
    rates = [json.loads(line)["lr"] for line in (rare / "history.jsonl").read_text().splitlines()]
    half = len(rates) // 2
    assert set(rates[2:half]) == {0.003}
    assert set(rates[half:]) == {0.0015}


def test_a_threshold_is_chosen_on_validation_and_reported_on_test(rare: Path, tmp_path: Path):
    import pandas as pd

    result = evaluate(rare, "--threshold-sweep", "--output", tmp_path, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "threshold.json").read_text())
    assert json.loads(result.stdout) == found
    assert (tmp_path / "precision_recall.png").read_bytes().startswith(b"\x89PNG")
    rows = pd.read_csv(rare / "predictions.csv").dropna(subset=["cls_target"])
    actual = rows["cls_target"] == found["positive"]
    scores = rows[f"cls_p_{found['positive']}"]
    for key, value in (("usual", 0.5), ("chosen", found["threshold"])):  # one class of two
        expected = f1_score(actual, scores >= value)
        assert found["test"][key]["f1"] == pytest.approx(expected, abs=1e-6)
    metrics = json.loads((rare / "metrics.json").read_text())["splits"]
    for split in ("validation", "test"):
        assert found[split]["usual"]["f1"] == pytest.approx(metrics[split]["cls"]["rare_f1"])
        assert found[split]["pr_auc"] == pytest.approx(metrics[split]["cls"]["rare_pr_auc"])
    assert found["validation"]["chosen"]["f1"] >= found["validation"]["usual"]["f1"]


def test_its_files_belong_to_the_run_and_are_replaced_with_it(rare: Path, train, tmp_path: Path):
    folder = Path(shutil.copytree(rare, tmp_path / "run"))
    result = evaluate(folder, "--threshold-sweep")
    assert result.exit_code == 0, result.output
    assert "on test" in result.stdout
    assert (folder / "threshold.json").exists()
    assert train(folder, "--overwrite", "train.epochs=1").exit_code == 0
    assert not (folder / "threshold.json").exists()


def test_two_runs_side_by_side(rare: Path, full_run: Path):
    result = evaluate(full_run, "--compare-to", rare, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for letter, folder in (("a", full_run), ("b", rare)):
        side = found[letter]
        assert 0 < side["p50_ms"] <= side["p95_ms"] <= side["p99_ms"]
        assert side["sentences_per_s"] > 0
        stated = json.loads((folder / "metrics.json").read_text())["splits"]["test"]["cls"]
        assert side["figures"]["cls"]["accuracy"] == stated["accuracy"]
    weights = sum(f.stat().st_size for f in rare.rglob("*.safetensors")) / 1e6
    assert found["b"]["disk_megabytes"] == pytest.approx(weights)
    shown = evaluate(rare, "--compare-to", full_run)
    assert "cls rare_f1 ↑" in shown.stdout
    assert f"test; rare: {found['b']['positive']['cls']!r}" in shown.stdout
    assert "MB on disk" in shown.stdout


def test_runs_of_other_test_rows_are_not_compared(rare: Path, tmp_path: Path):
    other = Path(shutil.copytree(rare, tmp_path / "other"))
    lines = (other / "predictions.csv").read_text().splitlines()
    (other / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")
    result = evaluate(rare, "--compare-to", other)
    assert result.exit_code == 1
    assert "The test rows of cls should be the same" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_eight_bits_are_written_and_measured(rare: Path, tmp_path: Path):
    result = evaluate(rare, "--quantize", "int8", "--output", tmp_path, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {p.name for p in tmp_path.iterdir()} == {"model-int8.onnx", "model-int8.onnx.json"}
    rows = {row["engine"]: row for row in found["rows"]}
    assert list(rows) == ["eager, sorted", "onnx", "onnx-int8"]
    size = (tmp_path / "model-int8.onnx").stat().st_size / 1e6
    assert rows["onnx-int8"]["disk_megabytes"] == pytest.approx(size)
    assert size < rows["onnx"]["disk_megabytes"]
    assert rows["onnx"]["largest_difference"] < 1e-4
    assert 0 < found["relative_difference"] < 0.1
    session = onnxruntime.InferenceSession(tmp_path / "model-int8.onnx")
    assert [output.name for output in session.get_outputs()] == ["cls"]
    description = json.loads((tmp_path / "model-int8.onnx.json").read_text())
    assert description["tasks"]["cls"]["classes"] == ["negative", "positive"]


def test_what_is_too_far_from_fp32_is_not_written(rare: Path, tmp_path: Path, monkeypatch):
    from dao.learner.inference import quantizing

    def far(*_, folder: Path, **__):
        (folder / "model-int8.onnx").write_text("graph")
        row = {"engine": "onnx-int8", "largest_difference": 0.5}
        return {"rows": [row], "largest_output": 4.0}

    monkeypatch.setattr(quantizing, "compare_engines", far)
    result = evaluate(rare, "--quantize", "int8", "--output", tmp_path)
    assert result.exit_code == 1
    assert "within 10% of the largest. Found a difference of 12.5%" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file_is_named(rare: Path, tmp_path: Path):
    (tmp_path / "no").write_text("mine")
    for flags in (["--threshold-sweep"], ["--quantize", "int8"]):
        result = evaluate(rare, *flags, "--output", tmp_path / "no")
        assert result.exit_code == 1
        assert str(tmp_path / "no") in result.stderr.replace("\n", "")
        assert (tmp_path / "no").read_text() == "mine"
