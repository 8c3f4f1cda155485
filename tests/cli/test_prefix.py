"""train.py with cached frozen layers: repeatable, resumable, the same record."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

DENDRITES = ("--dao", "--dendrites", "dendrites.init_scale=0.1")
HALF = ("encoder.lora.last_layers=1", "encoder.precision=fp32")


def cache(folder: Path) -> tuple[str, ...]:
    return (*HALF, "encoder.prefix_cache=true", f"cache={folder}")


def record(folder: Path, name: str = "history.jsonl") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    timing = ("tokens_per_s", "memory_mib")
    return [{k: v for k, v in row.items() if k not in timing} for row in rows]


def weights(folder: Path) -> dict[str, Any]:
    return {f"{p.name}:{k}": v for p in folder.rglob("*.safetensors")
            for k, v in load_file(p).items()}  # fmt: skip


def assert_same(one: Path, other: Path) -> None:
    assert record(one) == record(other)
    assert record(one, "validation.jsonl") == record(other, "validation.jsonl")
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


@pytest.fixture(scope="module")
def cold(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix") / "cold"
    result = train(folder, *DENDRITES, *cache(folder.parent / "cache"))
    assert result.exit_code == 0, result.output
    assert "frozen layers: computing 100 rows" in result.stderr
    return folder


@pytest.mark.slow
def test_a_run_that_reads_the_cache_equals_the_one_that_filled_it(train, cold, tmp_path: Path):
    result = train(tmp_path / "warm", *DENDRITES, *cache(cold.parent / "cache"))
    assert result.exit_code == 0, result.output
    assert "frozen layers: 150 rows" in result.stderr
    assert "read from cache" in result.stderr
    assert_same(cold, tmp_path / "warm")
    spent = [json.loads((f / "metrics.json").read_text())["training"]["prefix_cache"]
             for f in (cold, tmp_path / "warm")]  # fmt: skip
    assert [s["warm"] for s in spent] == [False, True]
    assert spent[0]["rows"] == 150
    assert spent[0].keys() == {"rows", "mib", "seconds", "warm"}


@pytest.mark.slow
def test_dendrites_and_figures_are_those_without_the_cache(train, cold, tmp_path: Path):
    assert train(tmp_path / "plain", *DENDRITES, *HALF).exit_code == 0
    reports = [json.loads((f / "dendrites.json").read_text()) for f in (cold, tmp_path / "plain")]
    for key in ("module_names", "dendrites_added", "received_gradient", "parameters_added"):
        assert reports[0][key] == reports[1][key]
    assert reports[0]["received_gradient"] == reports[0]["modules_wrapped"] == 4 + 2
    found, plain = record(cold), record(tmp_path / "plain")
    assert [row["batch"] for row in found] == [row["batch"] for row in plain]
    assert found[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)
    assert found[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.05)
    training = json.loads((tmp_path / "plain" / "metrics.json").read_text())["training"]
    assert "prefix_cache" not in training


def test_the_final_figures_are_those_of_the_model_without_the_cache(
    cold: Path,
):
    from dao.learner.inference.load import load
    from dao.learner.pipeline.start import load_data

    model = load(cold, device="cpu")  # which caches nothing
    rows = load_data(model.folder.config())[1].rows("test")
    with (cold / "predictions.csv").open() as file:
        kept = list(csv.DictReader(file))
    for row, found in zip(kept, model.predict(rows["text"].tolist()), strict=True):
        assert {name: row[name] for name in found if name in row} == {
            name: str(value) for name, value in found.items() if name in row
        }


def test_the_final_figures_are_those_of_the_validation_that_selected(cold: Path):
    best = [row for row in record(cold, "validation.jsonl") if row["best"]][-1]
    found = json.loads((cold / "metrics.json").read_text())["splits"]["validation"]
    for task, figures in best["metrics"].items():
        for name, value in figures.items():
            assert found[task][name] == value


@pytest.mark.slow
@pytest.mark.parametrize("stop", [8, 13])
def test_resumed_equals_never_stopped_even_with_the_cache_gone(
    train, cold, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
):
    from dao.learner.console.report import RichProgress
    from train import app

    class PowerCut(BaseException):
        pass

    def step(self: RichProgress, row: dict[str, Any], total: int) -> None:
        if row["step"] == stop:
            raise PowerCut

    run, place = tmp_path / "run", tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(RichProgress, "step", step)
        with pytest.raises(PowerCut):
            train(run, *DENDRITES, *cache(place), "train.checkpoint_every=3")
    for file in place.rglob("*.states") if stop == 13 else ():
        file.unlink()
    result = CliRunner().invoke(app, ["--resume", str(run)])
    assert result.exit_code == 0, result.output
    assert_same(cold, run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["encoder.prefix_cache=true"], "Set encoder.lora.last_layers"),
        (["encoder.prefix_cache=true", "encoder.lora.last_layers=2"], "Lower encoder.lora"),
        (["encoder.lora.last_layers=3"], "Found 3; phi has 2"),
        (["encoder.lora.last_layers=0"], "at least 1"),
    ],
)
def test_settings_that_freeze_nothing_are_refused_in_one_line(
    train, tmp_path: Path, settings: list[str], message: str
):
    result = train(tmp_path / "run", *settings, f"cache={tmp_path / 'cache'}")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "cache" / "prefix").exists()
