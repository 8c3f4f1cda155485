"""`train.schedule=plateau`: the rate falls where validations say so, also in a resumed run."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

# So fast that a later validation is worse than an early one.
FAST = (
    "--tasks", "reg", "train.lr=0.1", "train.warmup=0", "train.validations_per_epoch=5",
    "train.schedule=plateau", "train.plateau=1", "train.gamma=0.5", "train.rate_floor=0.2",
)  # fmt: skip


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def expected(folder: Path) -> list[float]:
    """The rates that follow from the validations by the rule of the settings."""
    cuts, since, found = 0, 0, []
    by_step = {row["step"]: row for row in rows(folder, "validation.jsonl")}
    for step in range(1, 1 + len(rows(folder, "history.jsonl"))):
        found.append(0.1 * max(0.2, 0.5**cuts))
        if row := by_step.get(step):
            since = 0 if row["best"] else since + 1
            if since == 2:
                cuts, since = cuts + 1, 0
            if row["grown"]:
                cuts, since = 0, 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("grown", [(), ("--dendrites", "dendrites.where=heads")])
def test_the_rate_follows_the_validations_and_a_resumed_run_follows_the_whole_one(
    train, tmp_path: Path, stop_before, monkeypatch: pytest.MonkeyPatch, grown
):
    from train import app

    assert train(tmp_path / "whole", *FAST, *grown).exit_code == 0
    rates = [row["lr"] for row in rows(tmp_path / "whole", "history.jsonl")]
    assert rates == pytest.approx(expected(tmp_path / "whole"))
    assert len(set(rates)) > 1
    stop_before(14)
    assert train(tmp_path / "run", *FAST, *grown).exit_code == 130
    monkeypatch.undo()
    result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert [row["lr"] for row in rows(tmp_path / "run", "history.jsonl")] == rates
    ends = [load_file(tmp_path / n / "heads.safetensors") for n in ("whole", "run")]
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])
