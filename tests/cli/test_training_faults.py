"""A loss that is not finite, memory that runs out, Ctrl-C: one line, and nothing lost."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from dao.learner.kinds.regression import Regression

TINY = ("--tasks", "reg", "train.lr=0.01", "train.log_every=1", "dao.refresh_every=50")


def last_line(result: Result) -> str:
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def one_bad_row(tmp_path: Path) -> Path:
    """Row `bad` has a score that no other row has; it is for training."""
    verbs = {"rose": 0.5, "fell": -0.5}
    lines = ["id,text,label,score,split"]
    for i in range(60):
        verb = "rose" if i % 2 else "fell"
        split = "train" if i < 40 else "validation" if i < 50 else "test"
        lines.append(f"r{i},net profit {verb} in quarter {i},{verb},{verbs[verb]},{split}")
    lines.append("bad,sales fell sharply,fell,0.123,train")
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def hurt(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Give every batch with the bad row a loss, or a gradient, that is NaN."""
    original = Regression.loss

    def loss(self: Regression, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = original(self, outputs, targets)
        if not torch.isclose(targets, targets.new_tensor(0.123)).any():
            return found
        # The gradient of the root at 0 is infinite, times 0.
        return found * float("nan") if what == "loss" else found + (outputs * 0).sqrt().sum()

    monkeypatch.setattr(Regression, "loss", loss)


@pytest.mark.parametrize(
    ("what", "name"), [("loss", "The loss of `reg`"), ("gradient", "The gradient")]
)
@pytest.mark.parametrize("every", [1, 100])
def test_what_is_not_finite_is_named_with_step_and_rows(
    train, one_bad_row: Path, tmp_path: Path, monkeypatch, what: str, name: str, every: int
):
    hurt(monkeypatch, what)
    flags = ("--data", str(one_bad_row), *TINY, f"train.log_every={every}")
    result = train(tmp_path / "run", *flags, "train.validations_per_epoch=1")
    assert result.exit_code == 1
    line = last_line(result)
    assert line.startswith(f"error: {name} should be finite. Found nan at step ")
    named = line.partition("of the rows ")[2].partition(".")[0].split(", ")
    assert "bad" in named
    assert len(named) == len(set(named)) <= 10
    assert "train.nonfinite=skip" in line
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_gradient_that_is_measured_at_every_step_is_named_by_its_task(
    train, one_bad_row: Path, tmp_path: Path, monkeypatch
):
    hurt(monkeypatch, "gradient")
    flags = ("--data", str(one_bad_row), *TINY, "dao.refresh_every=null")
    result = train(tmp_path / "run", *flags, "train.validations_per_epoch=1")
    assert result.exit_code == 1
    assert last_line(result).startswith("error: The gradient of `reg` should be finite. Found nan")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "name"), [("loss", "The loss of `reg`"), ("gradient", "The gradient")]
)
@pytest.mark.parametrize("weighting", ["dao", "famo"])
def test_steps_that_are_not_finite_can_be_left_out(
    train, one_bad_row: Path, tmp_path: Path, monkeypatch, what: str, name: str, weighting: str
):
    hurt(monkeypatch, what)
    flags = ("--data", str(one_bad_row), *TINY, "--weighting", weighting, "train.nonfinite=skip")
    result = train(tmp_path / "run", *flags)
    assert result.exit_code == 0, result.output
    skipped = rows(tmp_path / "run" / "skipped.jsonl")
    assert [row["epoch"] for row in skipped] == [1, 2]
    assert all("bad" in row["rows"] and row["what"] == name for row in skipped)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["training"]["skipped_steps"] == 2
    assert "(2 left out: loss or gradient not finite)" in result.stdout.replace("\n", " ")
    history = rows(tmp_path / "run" / "history.jsonl")
    left = {row["step"] for row in skipped}
    total = metrics["training"]["steps"]
    assert [row["step"] for row in history] == [s for s in range(1, total + 1) if s not in left]
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "weighting", "tasks"),
    [("loss", "dao", "cls,reg"), ("loss", "equal", "reg"), ("gradient", "dao", "reg"),
     ("gradient", "equal", "cls,reg")],
)  # fmt: skip
def test_steps_that_measure_gradients_can_be_left_out(
    train, one_bad_row: Path, tmp_path: Path, monkeypatch, what: str, weighting: str, tasks: str
):
    hurt(monkeypatch, what)
    flags = ("--data", str(one_bad_row), "--tasks", tasks, "train.lr=0.01")
    flags = (*flags, "--weighting", weighting, "dao.refresh_every=1", "train.nonfinite=skip")
    result = train(tmp_path / "run", *flags)
    assert result.exit_code == 0, result.output
    assert [row["epoch"] for row in rows(tmp_path / "run" / "skipped.jsonl")] == [1, 2]


@pytest.mark.parametrize("tasks", ["reg", "cls,reg"])
def test_a_measured_gradient_that_is_not_finite_stops_the_run(
    train, one_bad_row: Path, tmp_path: Path, monkeypatch, tasks: str
):
    hurt(monkeypatch, "gradient")
    flags = ("--data", str(one_bad_row), "--tasks", tasks, "dao.refresh_every=1")
    result = train(tmp_path / "run", *flags)
    assert result.exit_code == 1
    line = last_line(result)
    assert line.startswith("error: The gradient of `reg` should be finite. Found nan at step ")
    assert "bad" in line


def test_a_run_that_skips_is_not_told_to_skip(train, tmp_path: Path, monkeypatch):
    from dao.learner.training.step_log import StepLog

    monkeypatch.setattr(StepLog, "goes_on", lambda *_: True)
    hurt_all = Regression.loss
    monkeypatch.setattr(Regression, "loss", lambda *a: hurt_all(*a) * float("nan"))
    result = train(tmp_path / "run", *TINY, "train.nonfinite=skip")
    assert result.exit_code == 1
    assert "should be finite" in last_line(result)
    assert "train.nonfinite=skip" not in last_line(result)


@pytest.mark.slow
def test_skipping_changes_nothing_where_all_is_finite(train, tmp_path: Path):
    for mode in ("stop", "skip"):
        assert train(tmp_path / mode, *TINY, f"train.nonfinite={mode}").exit_code == 0
    same_weights(tmp_path / "stop", tmp_path / "skip")
    assert not (tmp_path / "skip" / "skipped.jsonl").exists()


def same_weights(one: Path, other: Path) -> None:
    for name in ("adapter/adapter_model.safetensors", "heads.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a)


@pytest.mark.slow
def test_weights_that_are_not_finite_never_become_a_checkpoint(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dao.learner.training import loop
    from dao.learner.training.state import State

    original = loop.train_step

    def spoil(state: State, step: int, *arguments: Any) -> None:
        original(state, step, *arguments)
        if step == 4:
            next(iter(state.trainable().values())).data[0] = torch.inf

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", spoil)
        result = train(tmp_path / "run", *TINY, "train.checkpoint_every=3", "train.epochs=3")
    assert result.exit_code == 1
    assert "should be finite" in last_line(result)
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "step=000003"
    assert resumed(tmp_path / "run").exit_code == 0


def resumed(folder: Path) -> Result:
    from train import app

    return CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "allocator", "python"],
)
def test_exhausted_memory_says_what_to_change(train, tmp_path: Path, monkeypatch, error):
    from dao.learner.model.model import MultiTaskModel

    def exhausted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MultiTaskModel, "represent", exhausted)
    result = train(tmp_path / "run", *TINY)
    assert result.exit_code == 1
    for word in ("memory", "train.batch_size", "encoder.max_length", "--quantize nf4"):
        assert word in last_line(result)


def test_another_runtime_error_is_a_bug_and_keeps_its_traceback(train, tmp_path, monkeypatch):
    from dao.learner.model.model import MultiTaskModel

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(MultiTaskModel, "represent", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        train(tmp_path / "run", *TINY)


def pressing(monkeypatch: pytest.MonkeyPatch, step: int, times: int) -> None:
    """Press Ctrl-C during a step."""
    from dao.learner.training import loop
    from dao.learner.training.state import State

    original = loop.train_step

    def press(state: State, number: int, *arguments: Any) -> None:
        for _ in range(times if number == step else 0):
            os.kill(os.getpid(), signal.SIGINT)
        original(state, number, *arguments)

    monkeypatch.setattr(loop, "train_step", press)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C is heard as at a terminal; a shell has its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_resume(train, tmp_path: Path, monkeypatch):
    assert train(tmp_path / "whole", *TINY).exit_code == 0
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        pressing(patch, step=3, times=1)
        result = train(folder, *TINY)
    assert result.exit_code == 130
    assert last_line(result) == f"stopped; dao train --resume {folder} continues"
    assert (folder / "checkpoints" / "latest").read_text() == "step=000003"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert resumed(folder).exit_code == 0
    same_weights(tmp_path / "whole", folder)


def test_a_second_ctrl_c_stops_at_once(train, tmp_path: Path, monkeypatch):
    pressing(monkeypatch, step=3, times=2)
    result = train(tmp_path / "run", *TINY)
    assert result.exit_code == 130
    assert "no checkpoint yet: start it again" in last_line(result)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_of_several_ranks_a_first_ctrl_c_acts_at_once(monkeypatch):
    from dao.learner.processes import ranks
    from dao.learner.processes.interrupt import deferred_interrupt

    usual = signal.getsignal(signal.SIGINT)
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGINT) is not usual
    monkeypatch.setattr(ranks, "several", lambda: True)
    with deferred_interrupt() as interrupted:
        assert signal.getsignal(signal.SIGINT) is usual
        assert not interrupted()


def test_ctrl_c_after_the_end_does_not_advise_to_start_again(train, tmp_path: Path, monkeypatch):
    from dao.learner.storage.writing import OwnedRecord

    remove = OwnedRecord.remove_checkpoints

    def press(self: OwnedRecord) -> None:
        remove(self)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(OwnedRecord, "remove_checkpoints", press)
    result = train(tmp_path / "run", *TINY)
    assert result.exit_code == 130
    assert last_line(result) == f"stopped; the run in {tmp_path / 'run'} is finished"
