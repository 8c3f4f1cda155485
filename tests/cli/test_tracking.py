"""A run that TensorBoard is told of, broken off by a power cut and resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dao.learner.tracking import trackers
from tests.cli.conftest import BOTH

CUT = 14  # a checkpoint every 3 steps: this process has logged step 13, and the next one does again
TRACKED = ("train.track=[tensorboard]", "train.log_every=1", "train.checkpoint_every=3")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> step and value of all that TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def resumed(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dao.learner.console.report import RichProgress
    from train import app

    class PowerCut(BaseException):
        pass

    def step(self: RichProgress, row: dict[str, Any], total: int) -> None:
        if row["step"] == CUT:
            raise PowerCut

    folder = tmp_path_factory.mktemp("tracked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RichProgress, "step", step)
        with pytest.raises(PowerCut):
            train(folder, *BOTH, *TRACKED)
    assert max(step for step, _ in scalars(folder)["train/loss"]) == CUT - 1
    result = CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.slow
def test_tensorboard_shows_every_step_once(resumed: Path):
    shown, history = scalars(resumed), rows(resumed, "history.jsonl")
    assert len(history) == 20
    for name, of in {
        "train/loss": lambda row: row["loss"],
        "train/lr": lambda row: row["lr"],
        "loss/cls": lambda row: row["tasks"]["cls"]["loss"],
        "weight/reg": lambda row: row["tasks"]["reg"]["weight"],
        "norm/cls": lambda row: row["tasks"]["cls"]["norm"],
        "share/reg": lambda row: row["tasks"]["reg"]["share"],
    }.items():
        expected = [(row["step"], pytest.approx(of(row), rel=1e-6)) for row in history]
        assert shown[name] == expected, name


@pytest.mark.slow
def test_tensorboard_shows_validations_growths_and_the_test_figures(resumed: Path):
    shown, checks = scalars(resumed), rows(resumed, "validation.jsonl")
    assert [step for step, _ in shown["validation/score"]] == [row["step"] for row in checks]
    assert shown["dendrites/grown"] == [(row["step"], float(row["grown"])) for row in checks]
    accuracies = [row["metrics"]["cls"]["accuracy"] for row in checks]
    found = [value for _, value in shown["validation/cls.accuracy"]]
    assert found == pytest.approx(accuracies, rel=1e-6)
    metrics = json.loads((resumed / "metrics.json").read_text())
    accuracy = metrics["splits"]["test"]["cls"]["accuracy"]
    assert shown["test/cls.accuracy"] == [(20, pytest.approx(accuracy, rel=1e-6))]


@pytest.mark.slow
def test_a_run_that_is_watched_is_the_run_that_is_not(resumed: Path, full_run: Path):
    found = [json.loads((run / "metrics.json").read_text()) for run in (resumed, full_run)]
    assert found[0]["splits"] == found[1]["splits"]
    weights = [{n: d for n, d in of["files"].items() if n.endswith("safetensors")} for of in found]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 3


@pytest.mark.slow
def test_a_tracker_that_fails_in_the_middle_ends_no_run(train, tmp_path: Path, monkeypatch):
    from accelerate.tracking import TensorBoardTracker

    real = TensorBoardTracker.log

    def log(self, values: dict[str, Any], step: int, **options: Any) -> None:
        if step == 7:
            raise OSError(28, "No space left on device")
        real(self, values, step=step, **options)

    monkeypatch.setattr(TensorBoardTracker, "log", log)
    result = train(tmp_path / "run", "--tasks", "reg", "train.track=tensorboard")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("tensorboard failed at step 7 and is told no more") == 1
    assert len(rows(tmp_path / "run", "history.jsonl")) == 16
    kept = json.loads((tmp_path / "run" / "tracking.json").read_text())["trackers"]
    assert kept["tensorboard"]["failed"]["step"] == 7


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_tracker_without_its_package_is_refused_first(train, tmp_path: Path, monkeypatch, more):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    result = train(tmp_path / "run", "train.track=[wandb]", *more)
    assert result.exit_code == 1
    assert "Run: pip install wandb" in result.stderr
    assert not (tmp_path / "run").exists()
