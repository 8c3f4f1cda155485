"""Killed at any moment and resumed, a run ends with the weights of one that was not."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

HELPER = Path(__file__).with_name("killed_runs.py")
KILLS = 5  # per arm
SMALL = ("encoder.precision=fp32", "train.page=false",
         "train.epochs=1", "train.batch_size=10", "train.lr=0.01",
         "train.checkpoint_every=1", "train.log_every=1", "dendrites.graph=false")  # fmt: skip
ARMS = {
    "plain": ("--tasks", "reg"),
    "dendrites": ("--tasks", "reg", "--dendrites", "train.validations_per_epoch=4"),
}


def weights(folder: Path) -> dict[str, Any]:
    files = ("adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors")
    present = [folder / name for name in files if (folder / name).exists()]
    return {f"{p.name}:{k}": v for p in present for k, v in load_file(p).items()}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_killed_at_random_moments_and_resumed(
    tiny_phi: Path, tiny_csv: Path, warm_python: str, tmp_path: Path, arm: str
):
    what = ("--encoder", str(tiny_phi), "--data", str(tiny_csv), *SMALL, *ARMS[arm])
    command = [warm_python, str(HELPER), str(tmp_path), str(KILLS), "8", *what]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    assert result.stdout.startswith(f"{KILLS} kills")
    whole = weights(tmp_path / "whole")
    history = (tmp_path / "whole" / "validation.jsonl").read_text()
    runs = sorted(tmp_path.glob("run-*"))
    assert runs
    for run in runs:
        found = weights(run)
        assert found.keys() == whole.keys()
        assert all(found[name].equal(whole[name]) for name in whole)
        assert (run / "validation.jsonl").read_text() == history
        assert not list(run.rglob("*.partial"))
