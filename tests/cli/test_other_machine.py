"""A run that is resumed on another machine keeps what it began with, or says what changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dao.learner.pipeline import machine
from dao.learner.pipeline.machine import settle
from dao.learner.processes import ranks
from dao.learner.settings.config import load_config
from dao.learner.storage.writing import OwnedRecord

SHORT = ("--tasks", "cls", "encoder.precision=auto", "train.epochs=1", "train.checkpoint_every=2")
UNIT = "_is_avx512_bf16_supported"


def resume(folder: Path) -> Result:
    from train import app

    return CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)


def fast_bf16(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, UNIT, lambda: fast, raising=False)


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False])
def test_the_precision_of_the_start_is_kept(
    train, stop_before: Callable[[int], None], monkeypatch, tmp_path: Path, fast: bool
):
    folder, began, here = tmp_path / "run", *(("bf16", "fp32") if fast else ("fp32", "bf16"))
    with pytest.MonkeyPatch.context() as first:
        fast_bf16(first, fast)
        stop_before(5)
        assert train(folder, *SHORT).exit_code == 130
    assert json.loads((folder / "machine.json").read_text())["history"][0]["precision"] == began
    monkeypatch.undo()
    fast_bf16(monkeypatch, not fast)
    result = resume(folder)
    assert result.exit_code == 0, result.output
    said = f"precision: {began}, as the run began; this machine alone would have taken {here}"
    assert said in result.stderr
    assert f"{began}, eager attention on cpu" in result.stderr
    assert "the machine changed: from cpu (" in result.stderr
    made = json.loads((folder / "metrics.json").read_text())["provenance"]
    assert made["precision"] == began
    assert [m["precision"] for m in made["machines"]] == [began, began]
    assert ["AVX512-BF16" in m["hardware"] for m in made["machines"]] == [fast, not fast]
    assert not (folder / "machine.json").exists()


def begun(folder: Path, device: str = "cpu", precision: str = "fp32") -> OwnedRecord:
    facts = {"device": device, "hardware": "elsewhere", "precision": precision}
    folder.mkdir()
    (folder / "machine.json").write_text(json.dumps({"history": [facts]}))
    return OwnedRecord(folder)


def test_a_gpu_that_is_not_here_is_told_and_recorded(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fast_bf16(monkeypatch, False)
    notes: list[str] = []
    run = begun(tmp_path / "run", "cuda", "bf16")
    found = settle(load_config(None, []), run, notes.append, resume=True)
    assert (found.device.type, found.precision) == ("cpu", "bf16")
    assert any(
        n.startswith("the machine changed: from cuda (elsewhere, bf16) to cpu") for n in notes
    )
    assert [m["device"] for m in run.read("machine.json")["history"]] == ["cuda", "cpu"]


def test_a_run_that_began_on_the_cpu_stays_there(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    notes: list[str] = []
    run = begun(tmp_path / "run")
    assert settle(load_config(None, []), run, notes.append, resume=True).device.type == "cpu"
    assert "device: cpu, as the run began" in notes[0]
    assert "`device: cuda`" in notes[0]


def test_the_same_machine_is_recorded_once_and_says_nothing(tmp_path: Path):
    notes: list[str] = []
    run, cfg = OwnedRecord(tmp_path), load_config(None, [])
    first = settle(cfg, run, notes.append, resume=False)
    assert settle(cfg, run, notes.append, resume=True) == first
    assert len(first.history) == 1
    assert notes == []


def test_a_new_run_ignores_what_an_earlier_one_left(tmp_path: Path):
    run = begun(tmp_path / "run", "cuda", "bf16")
    found = settle(load_config(None, ["encoder.precision=fp32"]), run, print, resume=False)
    assert [m["device"] for m in found.history] == [found.device.type]


def test_a_run_of_an_earlier_version_says_what_it_goes_on_with(tmp_path: Path):
    notes: list[str] = []
    settle(load_config(None, []), OwnedRecord(tmp_path), notes.append, resume=True)
    assert "did not record" in notes[0]
    notes.clear()
    explicit = load_config(None, ["encoder.precision=fp32"])
    (tmp_path / "machine.json").unlink()
    settle(explicit, OwnedRecord(tmp_path), notes.append, resume=True)
    assert notes == []


def test_unlike_ranks_take_what_the_first_takes(tmp_path: Path, monkeypatch):
    other = {"device": "cpu", "hardware": "first", "precision": "bf16"}
    monkeypatch.setattr(ranks, "gather", lambda own: [other, own])
    fast_bf16(monkeypatch, False)
    found = settle(load_config(None, []), OwnedRecord(tmp_path), print, resume=False)
    assert found.precision == "bf16"
    assert machine.MACHINE == "machine.json"
