"""evaluate.py measures and predicts with exactly the model that was selected."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from typer import Typer
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[2]


def app() -> Typer:
    from evaluate import app

    return app


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app(), list(map(str, arguments)), catch_exceptions=False)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_report_is_reproduced_exactly(full_run: Path):
    result = evaluate(full_run, "--format", "json")
    assert result.exit_code == 0, result.output
    found, written = json.loads(result.stdout), json.loads((full_run / "metrics.json").read_text())
    for part in ("baselines", "slices", "best_reachable"):
        assert found[part] == written[part]
    assert found["splits"]["test"] == written["splits"]["test"]


def test_a_run_made_before_arms_were_recorded_is_still_read(full_run: Path, tmp_path: Path):
    earlier = tmp_path / "earlier"
    shutil.copytree(full_run, earlier)
    metrics = json.loads((full_run / "metrics.json").read_text())
    del metrics["provenance"]["lora"], metrics["dendrites"]["control"]
    (earlier / "metrics.json").write_text(json.dumps(metrics))
    result = evaluate(earlier, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"] == metrics["splits"]["test"]


@pytest.mark.slow
def test_a_fresh_process_predicts_the_same(full_run: Path, tmp_path: Path, warm_python: str):
    written = table(full_run / "predictions.csv")
    file = tmp_path / "texts.csv"
    with file.open("w") as out:
        csv.writer(out).writerows([["text"], *([row["text"]] for row in written)])
    program = [warm_python, "evaluate.py", full_run, "--input", file]
    subprocess.run([*program, "--output", tmp_path / "out.csv"], check=True, cwd=ROOT)
    found = table(tmp_path / "out.csv")
    assert [row["text"] for row in found] == [row["text"] for row in written]
    for column in ("cls", "reg", "cls_p_negative", "cls_p_positive"):
        assert [row[column] for row in found] == [row[column] for row in written]


def test_new_data_are_measured_with_baselines_and_overlap_told(
    full_run: Path, tiny_csv: Path, tmp_path: Path
):
    rows = tiny_csv.read_text().splitlines()
    new = tmp_path / "new.csv"
    new.write_text("text,label\n" + "\n".join(",".join(r.split(",")[1:3]) for r in rows[91:131]))
    result = evaluate(full_run, "--data", new)
    assert result.exit_code == 0, result.output
    assert "new.csv (cls n=32)" in result.stdout
    assert not re.search(r"\btest\b", result.stdout.replace("no test", ""))
    assert "majority class" in result.stdout
    assert "8 of these rows were in the training data" in result.stdout


def test_new_data_may_call_its_columns_otherwise(full_run: Path, tiny_csv: Path, tmp_path: Path):
    new = tmp_path / "new.csv"
    new.write_text(tiny_csv.read_text().replace("id,text,label", "id,headline,sentiment", 1))
    one_line(evaluate(full_run, "--data", new), "`text`", "headline")
    named = ("data.text=headline", "data.cls=sentiment")
    result = evaluate(full_run, *named, "--data", new)
    assert result.exit_code == 0, result.output
    assert "new.csv (cls n=120, reg n=120)" in result.stdout
    output = tmp_path / "out.csv"
    assert evaluate(full_run, *named, "--input", new, "--output", output).exit_code == 0
    assert len(table(output)) == 150


@pytest.mark.parametrize(
    "setting", ["train.lr=1", "data.where.agree=1.0", "data.fractions=[0.7,0.15,0.15]"]
)
def test_only_columns_can_be_set(full_run: Path, setting: str):
    result = evaluate(full_run, "--data", "new.csv", "data.text=t", setting)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "only what new data are like (data.NAME=VALUE, of text, cls, reg, split," in said


def test_new_data_are_not_filtered_as_the_training_data_were(
    full_run: Path, tiny_csv: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(full_run, tmp_path / "run"))
    cfg = yaml.safe_load((folder / "config.yaml").read_text())
    cfg["data"]["where"] = {"label": "positive"}
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    said = "not applied to these rows: data.where of the run, {'label': 'positive'}"
    result = evaluate(folder, "--data", tiny_csv, "--format", "markdown")
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.stdout.split())


def test_markdown(full_run: Path):
    result = evaluate(full_run, "--format", "markdown")
    assert result.exit_code == 0
    assert "| cls accuracy ↑ |" in " ".join(result.stdout.split())
    assert "cls+reg-dao-dendrites (this model)" in result.stdout


def test_text_gives_one_json_line_each(full_run: Path):
    result = evaluate(full_run, "--text", "net profit rose", "--text", "net profit fell sharply")
    assert result.exit_code == 0
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["text"] == "net profit rose"
    assert first["cls"] in ("negative", "positive")
    assert first["cls_p_negative"] + first["cls_p_positive"] == pytest.approx(1, abs=1e-5)
    assert first["reg"] != second["reg"]


def test_predicting_leaves_nothing_in_the_cache(full_run: Path):
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "dao"
    before = sorted(cache.rglob("*"))
    assert before  # the run itself left its token ids
    evaluate(full_run, "--text", "net sales widened more than anyone asked for")
    assert sorted(cache.rglob("*")) == before


def test_a_batch_of_one_predicts_as_a_batch_of_many(full_run: Path):
    texts = ["net profit rose", "the company said net costs fell slightly in quarter 3", "loss"]
    together = evaluate(full_run, *(x for t in texts for x in ("--text", t))).stdout.splitlines()
    for text, line in zip(texts, together, strict=True):
        alone = json.loads(evaluate(full_run, "--text", text).stdout)
        assert alone["reg"] == pytest.approx(json.loads(line)["reg"], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--merge-experts", "cat"], "--merge-experts goes together with --output."),
        (["--text", "a", "--data", "b.csv"], "exclude each other"),
        (["--benchmark", "--text", "a"], "exclude each other"),
        (["--benchmark", "--export", "m.onnx"], "exclude each other"),
        (["--threshold-sweep", "--quantize", "int8"], "exclude each other"),
        (["--compare-to", "x", "--text", "a"], "exclude each other"),
        (["--compare-to", "x", "--output", "y"], "--output goes with --input, --merge-experts"),
        (["--threshold-sweep", "--engine", "int8"], "--engine and columns are for reports"),
        (["--benchmark", "--engine", "merged"], "--engine and columns are for reports"),
        (["--export", "m.onnx", "data.text=t"], "--engine and columns are for reports"),
        (["--export", "m.onnx", "--format", "json"], "--format is for reports"),
        (["--text", "a", "--format", "json"], "--format is for reports"),
        (["--engine", "tpu"], "'tpu' is not one of"),
    ],
)
def test_flags_that_do_not_go_together_exit_with_2(
    full_run: Path, arguments: list[str], message: str
):
    result = evaluate(full_run, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("engine", "bound"),
    [("merged", 1e-5), pytest.param("bf16", 0.05, marks=pytest.mark.slow), ("int8", 0.1)],
)
def test_engines_serve_reports_and_predictions(full_run: Path, engine: str, bound: float):
    told = "LoRA merged into 0 of 8 layers, 8 but for the dendrites on lora_B"
    report = evaluate(full_run, "--engine", engine, "--format", "json")
    assert report.exit_code == 0, report.output
    assert json.loads(report.stdout)["notes"] == [f"engine {engine}: {told}"]
    plain, other = (
        evaluate(full_run, "--engine", name, "--text", "net profit rose")
        for name in ("eager", engine)
    )
    assert (plain.stderr, told in other.stderr) == ("", True)
    difference = json.loads(plain.stdout)["reg"] - json.loads(other.stdout)["reg"]
    assert abs(difference) <= bound


@pytest.mark.slow
@pytest.mark.usefixtures("exports_once")
def test_benchmark_compares_every_engine(full_run: Path):
    result = evaluate(full_run, "--benchmark", "--format", "json")
    assert result.exit_code == 0, result.output
    assert "round 5 of 5" in result.stderr
    found = json.loads(result.stdout)
    assert (found["texts"], found["rounds"], found["single_texts"]) == (25, 5, 25)
    rows = {row["engine"]: row for row in found["rows"]}
    eager = ["eager, padded to 64", "eager, in row order", "eager, sorted"]
    assert list(rows) == [*eager, "merged", "bf16", "int8", "onnx", "onnx-int8"]
    written = json.loads((full_run / "metrics.json").read_text())["splits"]["test"]
    for name, row in rows.items():
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["mean_ms"] <= 25 * row["p99_ms"]
        exact = name in (*eager, "merged", "onnx")
        assert row["largest_difference"] < (1e-4 if exact else 0.3)
        assert row["tokens_per_s"] / row["sentences_per_s"] == pytest.approx(found["tokens"] / 25)
        if exact:
            assert row["figures"]["cls"]["accuracy"] == written["cls"]["accuracy"]
            assert row["figures"]["reg"]["mse"] == pytest.approx(written["reg"]["mse"], rel=1e-3)
    assert rows["eager, padded to 64"]["ratio"] == 1
    assert rows["eager, sorted"]["largest_difference"] == 0
    assert rows["bf16"]["megabytes"] < rows["int8"]["megabytes"] * 1.2 < rows["merged"]["megabytes"]
    assert rows["onnx-int8"]["megabytes"] < rows["onnx"]["megabytes"]
    # On the disk: the run's own files and the encoder that LoRA stands on; the exported files.
    made = json.loads((full_run / "metrics.json").read_text())["provenance"]
    places = (full_run, full_run / "adapter", Path(made["encoder"]["name"]))
    files = [file for place in places for file in place.glob("*.safetensors")]
    assert len(files) == 4
    size = sum(file.stat().st_size for file in files) / 1e6
    assert rows["eager, sorted"]["disk_megabytes"] == pytest.approx(size)
    assert rows["onnx"]["disk_megabytes"] == rows["onnx"]["megabytes"]
    assert rows["int8"]["disk_megabytes"] is None  # it is made in memory


@pytest.mark.slow
def test_benchmark_tells_which_engine_cannot_run(full_run: Path, monkeypatch: pytest.MonkeyPatch):
    from dao.learner.inference import speed
    from dao.learner.inference.backends import onnx

    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    result = evaluate(full_run, "--benchmark", "--format", "markdown")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 8  # titles, a rule, six engines
    (reason,) = [line for line in result.stdout.splitlines() if line.startswith("- not run:")]
    assert reason.startswith("- not run: onnx, onnx-int8: ")
    assert "Found no onnx. Install the extra" in reason
    assert "- LoRA merged into 0 of 8 layers" in result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("exports_once")
def test_export_writes_a_file_that_predicts_alone(full_run: Path, tmp_path: Path):
    import numpy as np
    import onnxruntime

    file = tmp_path / "model.onnx"
    file.write_text("something older")
    result = evaluate(full_run, "--export", file)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.json"}
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert about["tasks"]["cls"]["classes"] == ["negative", "positive"]
    assert (about["outputs"], about["token_limit"]) == ({"cls": 2, "reg": 1}, 64)
    assert f"{about['largest_difference']:.1e}" in result.stdout
    assert about["largest_difference"] < 1e-4
    ids = np.array([[4, 5, 3, 9]])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(
        list(about["outputs"]), {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    )
    assert [x.shape for x in found] == [(1, 2), (1, 1)]


def test_an_export_that_cannot_be_right_leaves_nothing(
    full_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dao.learner.inference import exporting

    one_line(
        evaluate(full_run, "--export", tmp_path / "model.json"), "should be a file named *.onnx"
    )
    one_line(evaluate(full_run, "--export", tmp_path / "no" / "m.onnx"), "should be a file in a")

    class Wrong(torch.nn.Module):
        heads, device = ("cls", "reg"), torch.device("cpu")

        def forward(self, input_ids, attention_mask):
            return {task: torch.ones(len(input_ids), n) for task, n in (("cls", 2), ("reg", 1))}

    monkeypatch.setattr(exporting, "export", lambda model, path: path.write_text("graph"))
    monkeypatch.setattr(exporting, "OnnxEngine", lambda path: Wrong())
    one_line(evaluate(full_run, "--export", tmp_path / "m.onnx"), "should give the model's outputs")
    assert list(tmp_path.iterdir()) == []


def test_the_engines_on_offer_are_those_that_exist():
    from dao.learner.inference.engines import ENGINES

    shown = CliRunner().invoke(app(), ["--help"], env={"COLUMNS": "300"}).stdout
    assert "|".join(ENGINES) in shown


def one_line(result: Result, *fragments: str) -> None:
    assert result.exit_code == 1, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    for fragment in fragments:
        assert fragment in result.stderr


def test_folders_without_a_finished_run_are_refused(full_run: Path, tmp_path: Path):
    one_line(evaluate(tmp_path / "absent"), "should hold config.yaml")
    shutil.copytree(full_run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "metrics.json").unlink()
    one_line(evaluate(tmp_path / "unfinished"), "should be finished", "--resume")


def test_two_runs_are_compared(full_run: Path, tmp_path: Path):
    result = evaluate("compare", full_run, full_run, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    written = json.loads((full_run / "metrics.json").read_text())["splits"]["test"]
    assert found["a"]["mean"]["cls.accuracy"] == written["cls"]["accuracy"]
    # The rows without a class, and those without a score, count for the other task alone.
    assert {t["metric"]: t["n"] for t in found["per_example"]} == {
        "cls.accuracy": written["cls"]["n"], "reg.mse": written["reg"]["n"],
    }  # fmt: skip
    assert all(t["estimate"] == 0 and t["p"] == 1 for t in found["per_example"])
    assert "no significant difference" in evaluate("compare", full_run, full_run).stdout


def test_the_figures_of_a_run_are_those_of_its_predictions(full_run: Path):
    from dao.learner.experiment.findings.comparable import check_comparable
    from dao.learner.experiment.findings.runs import read_run
    from dao.learner.experiment.findings.verdicts import _scores

    run = read_run(full_run)
    check_comparable([run, run])
    assert len(run.batches) == run.metrics["training"]["steps"]
    assert len(run.validations) == run.metrics["dendrites"]["validations"]
    assert _scores([run], "cls").mean() == pytest.approx(run.figure("cls.accuracy"))
    assert _scores([run], "reg").mean() == pytest.approx(run.figure("reg.mse"), rel=1e-5)


def test_runs_with_other_test_rows_are_not_compared(full_run: Path, tmp_path: Path):
    shutil.copytree(full_run, tmp_path / "other")
    predictions = tmp_path / "other" / "predictions.csv"
    predictions.write_text("".join(predictions.read_text().splitlines(keepends=True)[:-1]))
    one_line(evaluate("compare", full_run, tmp_path / "other"), "test rows", "should be the same")
    one_line(evaluate("compare", full_run, tmp_path), "should be a finished run")
    for arguments in ([full_run], [full_run, full_run, "--text", "a"], [full_run] * 3):
        assert evaluate("compare", *arguments).exit_code == 2


def test_damaged_weights_are_refused(full_run: Path, tmp_path: Path):
    shutil.copytree(full_run, tmp_path / "run")
    (tmp_path / "run" / "heads.safetensors").write_bytes(b"damaged")
    one_line(evaluate(tmp_path / "run", "--text", "a"), "heads.safetensors cannot be read")
    (tmp_path / "run" / "tasks.json").write_text("{")
    one_line(evaluate(tmp_path / "run", "--text", "a"), "tasks.json", "cannot be read")


def test_changed_data_are_noticed(full_run: Path, tmp_path: Path, tiny_csv: Path):
    shutil.copytree(full_run, tmp_path / "run")
    changed = tmp_path / "changed.csv"
    changed.write_text(tiny_csv.read_text().replace("sharply", "slightly", 1))
    cfg = tmp_path / "run" / "config.yaml"
    cfg.write_text(cfg.read_text().replace(str(tiny_csv), str(changed)))
    one_line(evaluate(tmp_path / "run"), "changed since")
    new = evaluate(tmp_path / "run", "--data", tiny_csv)
    assert new.exit_code == 0
    assert f"{tiny_csv.name} (cls n=120, reg n=120)" in new.stdout
    assert "no baselines" in new.stdout
    assert "changed since" in new.stdout
    assert "majority class" not in new.stdout


def test_a_class_the_model_does_not_know_is_named(full_run: Path, tmp_path: Path):
    new = tmp_path / "new.csv"
    new.write_text("text,label\nnet profit rose,splendid\n")
    one_line(evaluate(full_run, "--data", new), "splendid")
