"""`train.early_stopping` ends a run, says so, and leaves a resumed run equal to a whole one."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from dao.errors import UserError
from dao.learner.experiment.grid.factorial import check_shared
from dao.learner.settings.config import load_config

PATIENCE = 2
# So fast that a later validation is worse than an early one.
FAST = (
    "--tasks", "reg", "train.lr=0.1", "train.warmup=0", "train.validations_per_epoch=5",
    f"train.early_stopping={PATIENCE}",
)  # fmt: skip


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def training(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())["training"]


def timeless(folder: Path) -> list[dict[str, Any]]:
    measured = ("tokens_per_s", "memory_mib")
    return [
        {k: v for k, v in r.items() if k not in measured} for r in rows(folder, "history.jsonl")
    ]


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early") / "whole"
    result = train(folder, *FAST)
    assert result.exit_code == 0, result.output
    (folder.parent / "printed.txt").write_text(result.stdout)
    return folder


def test_training_ends_after_so_many_validations_without_a_new_best(whole: Path):
    best = [row["best"] for row in rows(whole, "validation.jsonl")]
    steps = [row["step"] for row in rows(whole, "validation.jsonl")]
    assert len(best) < 10
    assert best[-PATIENCE - 1 :] == [True, *[False] * PATIENCE]
    assert all(any(best[i : i + PATIENCE]) for i in range(len(best) - PATIENCE))
    found = training(whole)
    assert found["stopped_early"] == {"after_step": steps[-1], "of_steps": 16}
    assert (found["steps"], found["selected_after_step"]) == (steps[-1], steps[-PATIENCE - 1])
    assert [row["step"] for row in rows(whole, "history.jsonl")] == list(range(1, steps[-1] + 1))
    said = (whole.parent / "printed.txt").read_text().replace("\n", " ")
    assert f"of {steps[-1]} (stopped early; 16 were planned)" in said


@pytest.mark.parametrize("before", ["the end", "the best"])
def test_a_resumed_run_stops_where_the_whole_one_does(
    train, whole: Path, tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch
):
    """The last checkpoint is that of the step after which training ends, or an earlier one."""
    from dao.learner.training import loop
    from dao.learner.training.state import State
    from train import app

    class PowerCut(BaseException):
        pass

    last, real = training(whole)["steps"], loop.train_step
    stop = training(whole)["selected_after_step"] + 1

    def step(state: State, number: int, *rest: object) -> None:
        if number == stop:
            raise PowerCut
        real(state, number, *rest)

    def finish(state: State, done: int) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        if before == "the end":
            patch.setattr(loop, "finish", finish)
        else:
            patch.setattr(loop, "train_step", step)
        with pytest.raises(PowerCut):
            train(tmp_path / "run", *FAST)
    saved = (tmp_path / "run" / "checkpoints" / "latest").read_text()
    assert saved == f"step={last if before == 'the end' else stop - 1:06d}"
    result = CliRunner().invoke(app, ["--resume", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert timeless(whole) == timeless(tmp_path / "run")
    found, expected = training(tmp_path / "run"), training(whole)
    assert found["stopped_early"] == expected["stopped_early"]
    name = "adapter/adapter_model.safetensors"
    a, b = load_file(whole / name), load_file(tmp_path / "run" / name)
    assert a.keys() == b.keys()
    assert all(a[key].equal(b[key]) for key in a)


def test_a_run_that_comes_to_its_end_did_not_stop_early(train, tmp_path: Path):
    result = train(tmp_path / "run", "--tasks", "reg", "train.early_stopping=9")
    assert result.exit_code == 0, result.output
    found = training(tmp_path / "run")
    assert (found["steps"], found["stopped_early"]) == (16, None)
    assert "stopped early" not in result.stdout


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (["dendrites.enabled=true"], "dendrites"),
        (["dendrites.enabled=true", "dendrites.control=restart"], "dendrites"),
        (["experts.names=news,forum"], "experts"),
        (["experts.names=news,forum", "experts.control=single"], "experts"),
    ],
)
def test_it_is_refused_where_the_number_of_steps_is_fixed(settings: list[str], what: str):
    with pytest.raises(UserError, match=f"`train.early_stopping` should be left out with {what}"):
        load_config(overrides=[*settings, "train.early_stopping=3"])
    assert load_config(overrides=settings).train.early_stopping is None


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon"])
def test_it_is_a_number_of_validations(value: str):
    with pytest.raises(UserError, match=r"train\.early_stopping"):
        load_config(overrides=[f"train.early_stopping={value}"])


def test_arms_of_an_experiment_take_the_same_steps():
    with pytest.raises(UserError, match=r"as many steps\. Found `train\.early_stopping`"):
        check_shared(load_config(overrides=["train.early_stopping=3"]), ())
