"""Runs on an encoder that they make themselves."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

SCRATCH = [
    f"encoder.scratch.{entry}"
    for entry in ("when=always", "layers=1", "width=16", "intermediate=32", "vocabulary=300")
]
PRETRAINED = (*SCRATCH, "encoder.scratch.pretrain_epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_run_says_what_it_was_made_of_and_needs_no_cache(train, tmp_path: Path, tune: str):
    from evaluate import app

    folder, cache = tmp_path / "run", tmp_path / "cache"
    result = train(folder, *PRETRAINED, f"encoder.tune={tune}", f"cache={cache}")
    assert result.exit_code == 0, result.output
    assert "encoder scratch: bert, 1 layers of 16" in result.output
    shutil.rmtree(cache)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["provenance"]["encoder"]["name"] == "bert from scratch"
    assert metrics["provenance"]["scratch"]["texts"] == 100
    kept = "encoder" if tune == "full" else "base"
    assert f"{kept}/model.safetensors" in metrics["files"]
    left = {path.name for path in folder.iterdir()}
    assert left & {"encoder", "base", "start"} == {kept}
    card = (folder / "README.md").read_text()
    assert "bert from scratch" in card
    assert "MiniLM" not in card
    again = CliRunner().invoke(app, [str(folder), "--format", "json"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["splits"]["test"] == metrics["splits"]["test"]
    assert not cache.exists()
    # Its files are those of any encoder.
    ordinary = train(tmp_path / "next", "--encoder", str(folder / kept), "train.epochs=1")
    assert ordinary.exit_code == 0, ordinary.output
    tokenizers = [
        (tmp_path / p / "tokenizer.json").read_bytes() for p in ("run/tokenizer", "next/tokenizer")
    ]
    assert tokenizers[0] == tokenizers[1]


@pytest.mark.slow
def test_a_stopped_run_goes_on_from_what_it_began_with(
    train, tmp_path: Path, monkeypatch, stop_before
):
    from train import app

    cache = tmp_path / "cache"
    settings = (*SCRATCH, "encoder.tune=full", f"cache={cache}")
    assert train(tmp_path / "whole", *settings).exit_code == 0
    stop_before(13)
    folder = tmp_path / "cut"
    train(folder, *settings)
    monkeypatch.undo()
    shutil.rmtree(cache)
    result = CliRunner().invoke(app, ["--resume", str(folder)])
    assert result.exit_code == 0, result.output
    assert not (cache / "scratch").exists()
    one, other = (load_file(p / "encoder/model.safetensors") for p in (tmp_path / "whole", folder))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_dry_run_says_what_would_be_made(train, tmp_path: Path):
    settings = ["encoder.scratch.when=offline", "encoder.tune=full", "--dry-run"]
    result = train(tmp_path / "run", "--encoder", "someone/bert", *settings)
    assert result.exit_code == 0, result.output
    assert "or where it cannot be had: bert from scratch (bert, 2 layers of 128" in result.output
