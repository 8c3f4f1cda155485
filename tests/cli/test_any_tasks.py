"""A table with tasks of all kinds, through everything that the two commands do."""

import csv
import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from dao.learner.settings.config import load_config
from tests.cli.conftest import FIVE, KINDS, NAMED, TEXTS, in_cells, kinds_rows

ROOT = Path(__file__).parents[2]
STEPS = 20
"""Of a run: 2 epochs of 100 rows in batches of 10."""
FIGURES = {
    "urgent": ("f1", "precision", "recall", "pr_auc", "roc_auc", "accuracy"),
    "area": ("accuracy", "macro_f1"),
    "tags": ("micro_f1", "macro_f1", "subset_accuracy"),
    "stars": ("qwk", "mae_levels", "accuracy"),
    "amount": ("r2", "mse"),
}
TESTED = {"urgent": ("f1", "pr_auc"), "area": ("accuracy", "macro_f1"),
          "tags": ("micro_f1", "macro_f1"), "stars": ("qwk", "mae_levels"),
          "amount": ("r2", "mse")}  # fmt: skip


def evaluate(*arguments: object) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def settings(*arguments: str) -> tuple[str, ...]:
    return (*FIVE, *NAMED, "--dao", *arguments)


@pytest.fixture(scope="module")
def run(kinds_run: Path) -> Path:
    """A finished run with a task of every kind, and beside it what was printed."""
    return kinds_run


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def test_a_dry_run_proposes_the_kinds_and_shows_them(train, kinds_csv: Path, tmp_path: Path):
    result = train(tmp_path / "run", *settings(), "--dry-run", data=kinds_csv)
    assert result.exit_code == 0, result.output
    written, _, data = result.stdout.partition("# data: ")
    tasks = yaml.safe_load(written)["tasks"]
    assert {name: task["kind"] for name, task in tasks.items()} == KINDS
    assert tasks["tags"]["separator"] == ";"
    kinds = json.loads(data.splitlines()[0])["kinds"]
    assert {name: kinds[name]["kind"] for name in KINDS} == KINDS
    assert kinds["stars"]["reason"] == "consecutive integers 1 to 3"
    assert not (tmp_path / "run").exists()


def stored_lists(rows: list[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """The rows with their labels as lists, as Parquet and as JSON lines."""
    frame = pd.DataFrame(rows)
    frame.to_parquet(folder / "kinds.parquet")
    yield folder / "kinds.parquet"
    lines = [json.dumps(row) for row in rows]
    (folder / "kinds.jsonl").write_text("\n".join(lines) + "\n")
    yield folder / "kinds.jsonl"


def test_lists_of_labels_are_the_labels_of_cells(kinds_csv: Path, tmp_path: Path):
    from dao.learner.pipeline.start import load_data

    def loaded(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        given = {"tasks": ",".join(KINDS), "data.sources": [str(path)]}
        cfg, rows, tasks = load_data(load_config(None, NAMED, given))
        assert {name: task.kind for name, task in cfg.tasks.items()} == KINDS
        targets = {name: task.encode(rows.frame[name].tolist()) for name, task in tasks.items()}
        return {name: task.to_dict() for name, task in tasks.items()}, targets

    tasks, targets = loaded(kinds_csv)
    cells = [row["tags"] for row in kinds_rows()]
    none, missing = cells.index([]), cells.index(None)
    assert targets["tags"][none].tolist() == [0] * 5
    assert targets["tags"][missing].isnan().all()
    for path in stored_lists(kinds_rows(), tmp_path):
        others, found = loaded(path)
        assert others == tasks
        for name in KINDS:
            torch.testing.assert_close(found[name], targets[name], equal_nan=True)


def test_every_figure_of_every_task_is_in_the_metrics(run: Path, metrics: dict[str, Any]):
    rows = [row for row in kinds_rows() if row["split"] == "test"]
    for name, kind in KINDS.items():
        about, found = metrics["tasks"][name], metrics["splits"]["test"][name]
        assert about["kind"] == kind
        assert tuple(figure["key"] for figure in about["figures"]) == FIGURES[name]
        assert found["n"] == sum(row[name] is not None for row in rows)
        assert all(math.isfinite(found[key]) for key in FIGURES[name])
        assert all(weight > 0 for weight in metrics["loss_weights"][name].values())
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert all(set(row["tasks"]) == set(KINDS) for row in history)


def test_figures_are_those_of_the_table_of_predictions(run: Path, metrics: dict[str, Any]):
    rows = {row["id"]: row for row in kinds_rows()}
    for name in KINDS:
        scores = [(p["id"], p[f"{name}_row_score"]) for p in table(run / "predictions.csv")]
        assert {i for i, score in scores if score} == {
            p for p, _ in scores if rows[p][name] is not None
        }
        known = [float(score) for _, score in scores if score]
        figure = metrics["tasks"][name]["row_figure"]
        assert np.mean(known) == pytest.approx(metrics["splits"]["test"][name][figure], rel=1e-5)


def test_every_figure_is_printed(run: Path, metrics: dict[str, Any]):
    printed = (run.parent / "stdout").read_text()
    for name, kind in KINDS.items():
        assert f"{name} ({kind}, n={metrics['splits']['test'][name]['n']})" in printed
    shown = evaluate(run, "--format", "markdown")
    assert shown.exit_code == 0, shown.output
    for name, keys in FIGURES.items():
        assert all(f"{metrics['splits']['test'][name][key]:.4f}" in shown.stdout for key in keys)
    told = (run.parent / "stderr").read_text()
    assert "urgent  urgent  binary          two values, no and yes" in told
    assert "--tasks " + ",".join(f"{n}:{k}" for n, k in KINDS.items()) in told


def test_a_reloaded_run_has_the_same_figures(run: Path, metrics: dict[str, Any]):
    result = evaluate(run, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"] == metrics["splits"]["test"]


def renamed(path: Path, split: str, names: dict[str, str]) -> Path:
    """The rows of one split under other names, without the columns of the table."""
    rows = [row for row in kinds_rows() if row["split"] == split]
    kept = [*TEXTS, *KINDS]
    return in_cells([{names.get(key, key): row[key] for key in kept} for row in rows], path)


def test_new_rows_are_measured(run: Path, metrics: dict[str, Any], tmp_path: Path):
    new = renamed(tmp_path / "new.csv", "test", {})
    result = evaluate(run, "--data", new, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"] == metrics["splits"]["test"]


@pytest.mark.parametrize("setting", ["data.stars=rating", "stars.column=rating"])
def test_new_rows_may_call_the_column_of_a_task_otherwise(
    run: Path, metrics: dict[str, Any], tmp_path: Path, setting: str
):
    new = renamed(tmp_path / "new.csv", "test", {"stars": "rating"})
    result = evaluate(run, "--data", new, setting, "--format", "json")
    assert result.exit_code == 0, result.output
    assert (
        json.loads(result.stdout)["splits"]["test"]["stars"] == (metrics["splits"]["test"]["stars"])
    )


def test_new_rows_may_lack_a_task(run: Path, metrics: dict[str, Any], tmp_path: Path):
    rows = [row for row in kinds_rows() if row["split"] == "test"]
    kept = (*TEXTS, "area", "tags")
    new = in_cells([{key: row[key] for key in kept} for row in rows], tmp_path / "new.csv")
    result = evaluate(run, "--data", new, "--format", "json")
    assert result.exit_code == 0, result.output
    found, before = json.loads(result.stdout)["splits"]["test"], metrics["splits"]["test"]
    assert found == {name: before[name] for name in ("area", "tags")}


def test_only_tasks_of_the_run_have_columns(run: Path):
    result = evaluate(run, "--data", "new.csv", "data.topic=thema")
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", " ").split())
    assert "of text, urgent, area, tags, stars, amount, split" in said


def test_rows_are_predicted_as_in_training(run: Path, tmp_path: Path):
    rows = [{n: row[n] for n in ("id", *TEXTS)} for row in kinds_rows() if row["split"] == "test"]
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame(rows).to_csv(source, index=False)
    result = evaluate(run, "--input", source, "--output", output)
    assert result.exit_code == 0, result.output
    found, written = table(output), table(run / "predictions.csv")
    columns = [name for name in written[0] if re.match(rf"({'|'.join(KINDS)})(_p_.*)?$", name)]
    assert {name.partition("_p_")[0] for name in columns} == set(KINDS)
    for ours, theirs in zip(found, written, strict=True):
        assert ours["id"] == theirs["id"]
        assert [ours[name] for name in columns] == [theirs[name] for name in columns]


def test_a_run_is_compared_with_itself(run: Path):
    result = evaluate("compare", run, run, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for name, keys in TESTED.items():
        assert {f"{name}.{key}" for key in keys} <= set(found["metrics"])
    assert {test["metric"].partition(".")[0] for test in found["per_example"]} == set(KINDS)
    assert all(test["estimate"] == 0 for test in found["per_example"])
    shown = evaluate("compare", run, run)
    assert shown.exit_code == 0
    assert "no significant difference" in shown.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = [folder / "adapter/adapter_model.safetensors", folder / "heads.safetensors"]
    return {f"{file.name}:{k}": v for file in files for k, v in load_file(file).items()}


@pytest.mark.slow
def test_a_run_that_was_killed_and_resumed_is_the_run_that_was_not(
    run: Path, warm_python: str, tmp_path: Path
):
    folder, program = tmp_path / "run", Path(__file__).with_name("one_rank.py")
    command = [program, "killed_in_step_14", "--config", run / "config.yaml", "--output", folder]
    killed = subprocess.run(
        [warm_python, *map(str, command)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "metrics.json").exists()
    assert (folder / "checkpoints" / "step=000012").is_dir()

    from train import app

    resumed = CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)
    assert resumed.exit_code == 0, resumed.output
    found, expected = weights(folder), weights(run)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)
    assert (folder / "validation.jsonl").read_text() == (run / "validation.jsonl").read_text()
    assert (folder / "predictions.csv").read_text() == (run / "predictions.csv").read_text()
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_the_exported_file_gives_the_outputs_of_the_run(run: Path, tmp_path: Path):
    import onnxruntime
    from transformers import AutoTokenizer

    file = tmp_path / "model.onnx"
    result = evaluate(run, "--export", file)
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert about["outputs"] == {"urgent": 1, "area": 4, "tags": 5, "stars": 2, "amount": 1}

    from dao.learner.kinds.recorded import restored_tasks

    tasks, written = restored_tasks(about["tasks"]), table(run / "predictions.csv")
    tokenizer = AutoTokenizer.from_pretrained(run / "tokenizer")
    assert about["pairs"]["text_pair"] == "body"
    assert about["inputs"] == ["input_ids", "attention_mask"]
    assert about["texts_compared"] > 0
    assert about["pairs"]["tokens"].startswith("tokenizer(text, '\\n' + text_pair, ")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for row in written:
        encoded = tokenizer(row["text"], "\n" + row["text_pair"], return_tensors="np")
        inputs = {i.name: encoded[i.name] for i in session.get_inputs()}
        outputs = map(torch.from_numpy, session.run(list(tasks), inputs))
        for (name, task), output in zip(tasks.items(), outputs, strict=True):
            found = {column: values[0] for column, values in task.predict(output).items()}
            assert str(found[name]) == row[name] or name == "amount"
            for column, value in found.items():
                if isinstance(value, float):
                    assert value == pytest.approx(float(row[column]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs", "without_pictures")
def test_an_experiment_reports_every_figure_of_every_task(
    tiny_phi: Path, kinds_csv: Path, tmp_path: Path
):
    from train import app

    out = tmp_path / "out"
    given = ("--encoder", str(tiny_phi), "--data", str(kinds_csv), "--output", str(out))
    quick = ("--config", str(ROOT / "configs" / "factorial-quick.yaml"), "train.epochs=1")
    design = ("--factorial", "--seeds", "1", "--arms", "base,dao", "--jobs", "2")
    result = CliRunner().invoke(
        app, [*FIVE, *NAMED, *given, *quick, *design], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    results = table(out / "Results.csv")
    assert [(row["arm"], row["seed"]) for row in results] == [
        ("base", "0"), ("dao", "0"),
    ]  # fmt: skip
    report = (out / "report.md").read_text()
    for name, keys in TESTED.items():
        for key in keys:
            for row in results:
                folder = out / row["arm"] / f"seed={row['seed']}"
                found = json.loads((folder / "metrics.json").read_text())["splits"]["test"][name]
                assert float(row[f"{name}.{key}"]) == pytest.approx(found[key])
        assert name in report
        assert name in result.stdout
    assert (out / "report.html").exists()
