"""An encoder that is trained whole, with dendrites on its linear layers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel
from typer.testing import CliRunner

from dao.learner.model.model import build
from dao.learner.settings.config import load_config

pytestmark = pytest.mark.slow

WHOLE = ("--tasks", "cls,reg", "--dao", "encoder.tune=full", "train.lr=0.003")
LINEAR = ("--dendrites", "dendrites.where=linear", "dendrites.init_scale=0.1")


@pytest.fixture(scope="module")
def whole(train, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = train(folder, "--encoder", str(tiny_bert), *WHOLE, *LINEAR)
    assert result.exit_code == 0, result.output
    return folder


def metrics(folder: Path):
    return json.loads((folder / "metrics.json").read_text())


def test_every_linear_layer_gets_dendrites_and_all_weights_move(whole: Path, tiny_bert: Path):
    report = json.loads((whole / "dendrites.json").read_text())
    model, _, _ = build(
        load_config(None, [f"encoder.name={tiny_bert}", "encoder.tune=full"]).encoder,
        {"cls": 3, "reg": 1},
        torch.device("cpu"),
        0,
    )
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert set(report["module_names"]) == {name for name in linear if "pooler" not in name}
    assert report["dendrites_added"] == 1
    assert report["received_gradient"] > 0
    before, after = model.base.state_dict(), load_file(whole / "encoder" / "model.safetensors")
    still = {n for n in after if after[n].is_floating_point() and after[n].equal(before[n])}
    assert all("pooler" in name for name in still)
    assert metrics(whole)["parameters"]["trainable"] > 0.9 * metrics(whole)["parameters"]["total"]


def test_the_saved_encoder_is_an_ordinary_model_and_evaluates_the_same(whole: Path):
    from evaluate import app

    assert AutoModel.from_pretrained(whole / "encoder").config.hidden_size > 0
    assert not (whole / "adapter").exists()
    result = CliRunner().invoke(app, [str(whole), "--format", "json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["splits"]["test"] == metrics(whole)["splits"]["test"]


@pytest.mark.parametrize("engine", ["merged", "int8"])
def test_engines_run_it(whole: Path, engine: str):
    from evaluate import app

    result = CliRunner().invoke(app, [str(whole), "--engine", engine, "--format", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["splits"]["test"]["reg"]["mse"]
    tolerance = 1e-5 if engine == "merged" else 0.05
    assert found == pytest.approx(metrics(whole)["splits"]["test"]["reg"]["mse"], rel=tolerance)


def test_resumption_is_exact_with_the_encoder_s_own_dropout(
    train, whole: Path, tiny_bert: Path, tmp_path: Path, monkeypatch, stop_before
):
    from train import app

    stop_before(13)
    folder = tmp_path / "cut"
    train(folder, "--encoder", str(tiny_bert), *WHOLE, *LINEAR)
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["--resume", str(folder)])
    assert result.exit_code == 0, result.output
    for name in ("encoder/model.safetensors", "heads.safetensors", "dendrites.safetensors"):
        one, other = load_file(whole / name), load_file(folder / name)
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["encoder.tune=full", "encoder.quantize=nf4"], "quantize"),
        (["encoder.tune=full", "dendrites.enabled=true"], "linear or heads"),
        (
            ["encoder.tune=full", "dendrites.enabled=true", "dendrites.where=wrapped-lowrank"],
            "linear or heads",
        ),
        (["dendrites.where=linear"], "1.7 GB"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(train, tmp_path: Path, settings, words):
    result = train(tmp_path / "no", *settings)
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "no").exists()


CAPACITY = ("dendrites.where=linear", "dendrites.control=capacity", "--dendrites")


def test_capacity_widens_the_encoder_and_the_run_evaluates_the_same(
    train, whole: Path, tiny_bert: Path, tmp_path: Path
):
    from evaluate import app

    run = tmp_path / "wide"
    result = train(run, "--encoder", str(tiny_bert), *WHOLE, *CAPACITY)
    assert result.exit_code == 0, result.output
    wide = AutoModel.from_pretrained(run / "encoder").config.intermediate_size
    per_unit = 2 * (32 + 1 + 32)
    assert metrics(run)["parameters"]["trainable"] == (
        metrics(whole)["parameters"]["trainable"] + (wide - 64) * per_unit
    )
    added = metrics(whole)["dendrites"]["parameters_added"]
    assert (wide - 65) * per_unit < added <= (wide - 64) * per_unit
    assert f"{wide - 64} units more" in result.stderr
    restarts = [metrics(f)["training"]["restarted_after_steps"] for f in (whole, run)]
    assert restarts[0] == restarts[1] != []
    shown = CliRunner().invoke(app, [str(run), "--format", "json"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["splits"]["test"] == metrics(run)["splits"]["test"]


def test_capacity_widens_an_encoder_from_scratch(train, tmp_path: Path):
    small = ["when=always", "layers=1", "width=16", "heads=2", "intermediate=32", "vocabulary=300"]
    scratch = [f"encoder.scratch.{setting}" for setting in small]
    cache = f"cache={tmp_path / 'cache'}"
    result = train(tmp_path / "run", "encoder.tune=full", *scratch, *CAPACITY, cache)
    assert result.exit_code == 0, result.output
    assert AutoModel.from_pretrained(tmp_path / "run" / "encoder").config.intermediate_size > 32
    from evaluate import app

    shown = CliRunner().invoke(app, [str(tmp_path / "run"), "--format", "json"])
    assert json.loads(shown.stdout)["splits"]["test"] == metrics(tmp_path / "run")["splits"]["test"]


def test_capacity_of_an_encoder_that_cannot_be_widened(train, tiny_gpt2: Path, tmp_path: Path):
    arguments = ("--encoder", str(tiny_gpt2), "encoder.tune=full", "dendrites.where=heads")
    result = train(tmp_path / "no", *arguments, "dendrites.control=capacity", "--dendrites")
    assert result.exit_code == 1
    assert "should widen feed-forward blocks of plain linear layers. Found in gpt2" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "no").exists()


def test_dropout_stays_only_where_the_encoder_trains(tmp_path: Path, tiny_bert: Path):
    for tune, expected in (("full", True), ("lora", False)):
        cfg = load_config(None, [f"encoder.name={tiny_bert}", f"encoder.tune={tune}"]).encoder
        base = build(cfg, {"reg": 1}, torch.device("cpu"), 0)[0].base
        rates = [m.p for m in base.modules() if isinstance(m, torch.nn.Dropout)]
        assert (max(rates) > 0) is expected
