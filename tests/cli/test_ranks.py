"""train.py on two processes that torchrun starts: the run of one process, one record, one voice."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.cli.conftest import FIVE, KINDS, NAMED

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("one_rank.py")
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
BOTH = ("--tasks", "cls,reg", "--dao", "--dendrites", "dendrites.init_scale=0.1")
EXACT = ("encoder.precision=fp32", "train.page=false", "dao.refresh_every=3")
RATE = "dendrites.lr=5"
CACHED = ("encoder.lora.last_layers=1", "encoder.prefix_cache=true")
SMALL = (
    "train.epochs=2", "train.batch_size=10", "train.validations_per_epoch=2", "train.lr=0.01",
    "dendrites.graph=false",
)  # fmt: skip
TIMED = ("tokens_per_s", "memory_mib")
Launch = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


def launch_by(
    python: str, what: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    given = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
    return subprocess.run(
        [python, *LAUNCHER, str(PROGRAM), what, *arguments],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.fixture(scope="module")
def launch(warm_python: str) -> Launch:
    """Runs train.py, with something done to it, on two ranks that torchrun starts."""
    return partial(launch_by, warm_python)


@pytest.fixture(scope="module")
def fixed(tiny_phi: Path, tiny_csv: Path) -> tuple[str, ...]:
    """What the fixture `train` gives a run on one rank."""
    return ("--encoder", str(tiny_phi), "--data", str(tiny_csv), *SMALL)


@pytest.fixture(scope="module")
def pair(launch: Launch, fixed: tuple[str, ...]) -> Launch:
    """Runs train.py on two ranks as the fixture `train` does on one."""

    def run(what: str, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return launch(what, *fixed, "--output", str(output), *arguments)

    return run


@pytest.fixture(scope="module")
def two(launch: Launch, fixed: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks, which hold the same weights to the bit after every step and growth.

    Each rank imports for itself and hashes strings in its own way, as anywhere else.
    """
    folder = tmp_path_factory.mktemp("ranks") / "two"
    places = ("--output", str(folder), f"cache={folder.parent / 'cache'}")
    own = {"PYTHON_EXEC": sys.executable}  # what torchrun starts the ranks with
    settings = (*BOTH, *EXACT, *CACHED, RATE, "train.track=[tensorboard]")
    result = launch("compare_every_step", *fixed, *places, *settings, **own)
    assert result.returncode == 0, result.stderr
    (folder.parent / "stdout").write_text(result.stdout)
    (folder.parent / "stderr").write_text(result.stderr)
    return folder


def rows(folder: Path, name: str = "history.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    files = ("adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors")
    present = [folder / name for name in files if (folder / name).exists()]
    return {f"{p.name}:{k}": v for p in present for k, v in load_file(p).items() if v.numel()}


def assert_equal_but_for_rounding(one: Path, other: Path, bound: float = 1e-5) -> None:
    for a, b in zip(rows(one), rows(other), strict=True):
        for key in ("step", "epoch", "batch", "rows", "tokens", "lr", "measured"):
            assert a[key] == b[key]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["tasks"].keys() == b["tasks"].keys()
        for task, figures in a["tasks"].items():
            found = b["tasks"][task]
            assert figures["weight"] == pytest.approx(found["weight"], rel=1e-5)
            assert figures["loss"] == pytest.approx(found["loss"], rel=1e-4)
            assert figures["norm"] == pytest.approx(found["norm"], rel=1e-4, nan_ok=True)
    for a, b in zip(rows(one, "validation.jsonl"), rows(other, "validation.jsonl"), strict=True):
        assert (a["step"], a["best"], a["grown"]) == (b["step"], b["best"], b["grown"])
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert max((a[name] - b[name]).abs().max() for name in a) < bound


def test_two_processes_train_the_model_of_one(train, two: Path, tmp_path: Path):
    assert train(tmp_path / "one", *BOTH, *EXACT, CACHED[0], RATE).exit_code == 0
    # At five times the rate Adam lets rounding grow, by 4e-5 to 2e-4 depending on the processor.
    # A rank with another rate would be off by some .05 after these steps.
    assert_equal_but_for_rounding(two, tmp_path / "one", bound=1e-3)
    assert sum(row["grown"] for row in rows(two, "validation.jsonl")) == 1
    figures = [json.loads((f / "metrics.json").read_text()) for f in (two, tmp_path / "one")]
    assert figures[0]["splits"]["test"]["cls"] == figures[1]["splits"]["test"]["cls"]
    assert figures[0]["training"]["prefix_cache"]["warm"] is False


def test_the_first_rank_alone_tells_tensorboard(two: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list((two / "tensorboard").glob("events.*"))) == 1
    events = EventAccumulator(str(two / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows(two)]
    assert "test/cls.accuracy" in events.Tags()["scalars"]


def test_one_rank_speaks(two: Path):
    said = [(two.parent / name).read_text() for name in ("stdout", "stderr")]
    for text, line in zip(said, ("run folder: ", "rows: 100 train"), strict=True):
        assert text.count(line) == 1
    assert "Warning" not in said[1]


@pytest.fixture
def broken_off(pair: Launch, two: Path, tmp_path: Path) -> Path:
    """The run `two`, stopped after step 13, with a checkpoint after step 12."""
    folder, cache = tmp_path / "run", f"cache={two.parent / 'cache'}"
    every = "train.checkpoint_every=3"
    result = pair("stop_before_step_14", folder, *BOTH, *EXACT, *CACHED, RATE, cache, every)
    assert result.returncode != 0
    assert f"--resume {folder} continues" in result.stderr
    assert not (folder / "metrics.json").exists()
    assert (folder / "checkpoints" / "step=000012").is_dir()
    return folder


def test_a_run_resumed_on_two_ranks_equals_one_that_was_not_stopped(
    launch: Launch, broken_off: Path, two: Path
):
    alone = broken_off.parent / "alone"
    shutil.copytree(broken_off, alone)
    result = launch("nothing", "--resume", str(broken_off))
    assert result.returncode == 0, result.stderr
    history = [[{k: v for k, v in row.items() if k not in TIMED} for row in rows(f)]
               for f in (broken_off, two)]  # fmt: skip
    assert history[0] == history[1]
    assert rows(broken_off, "validation.jsonl") == rows(two, "validation.jsonl")
    found, expected = weights(broken_off), weights(two)
    assert all(found[name].equal(expected[name]) for name in expected)

    from train import app  # and what two began one can finish

    assert CliRunner().invoke(app, ["--resume", str(alone)]).exit_code == 0
    assert_equal_but_for_rounding(alone, two, bound=1e-3)


def test_two_processes_lower_the_rate_and_stop_early_where_one_does(
    pair: Launch, train, tmp_path: Path
):
    arguments = (
        "--tasks", "reg", *EXACT, "train.lr=0.1", "train.warmup=0", "train.early_stopping=2",
        "train.validations_per_epoch=5", "train.schedule=plateau", "train.plateau=0",
        "train.gamma=0.9",
    )  # fmt: skip
    result = pair("compare_every_step", tmp_path / "two", *arguments)
    assert result.returncode == 0, result.stderr
    assert train(tmp_path / "one", *arguments).exit_code == 0
    found, expected = (
        json.loads((tmp_path / f / "metrics.json").read_text())["training"] for f in ("two", "one")
    )
    assert expected["stopped_early"] is not None
    assert found["stopped_early"] == expected["stopped_early"]
    rates = [[row["lr"] for row in rows(tmp_path / n)] for n in ("one", "two")]
    assert rates[0] == rates[1]
    assert len({*rates[0]}) > 1


def test_ranks_without_a_label_or_a_row_draw_and_accumulate(
    launch: Launch, tmp_path: Path, tiny_phi: Path, tiny_csv: Path
):
    rng = random.Random(1)
    lines = [line.split(",") for line in tiny_csv.read_text().splitlines()]
    for cells in lines[1:101]:  # one label per row, so many batches of 3 lack a task
        kept = rng.choice([2, 3, 3, 3])
        cells[5 - kept] = "" if cells[kept] else cells[5 - kept]
    data = tmp_path / "sparse.csv"
    data.write_text("\n".join(map(",".join, lines)))
    arguments = (
        "--encoder", str(tiny_phi), "--data", str(data), "--dao",
        "encoder.precision=fp32", "train.page=false", *SMALL,
        "train.epochs=1", "train.batch_size=3", "train.packing=true", "train.lr=0.003",
        "cls.class_weights=balanced", "dao.source=params",
        "train.sampling=equal", "train.accumulate=3", "dao.refresh_every=3",
    )  # fmt: skip

    from train import app

    alone = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "one")])
    assert alone.exit_code == 0, alone.output
    result = launch("compare_every_step", *arguments, "--output", str(tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    history = rows(tmp_path / "two")
    assert {len(row["tasks"]) for row in history} == {1, 2}
    assert {row["rows"] for row in history} == {9, 1}
    assert result.stderr.count("sampling equal: an epoch of 100 rows") == 1
    assert_equal_but_for_rounding(tmp_path / "one", tmp_path / "two")


def test_tasks_of_all_kinds_are_the_same_on_two_ranks(
    train, launch: Launch, tiny_phi: Path, kinds_csv: Path, tmp_path: Path
):
    settings = (
        *FIVE, *NAMED, "--dao", "dao.source=rep", *EXACT, *SMALL, "train.batch_size=3",
        "train.packing=true", "train.epochs=1", "train.lr=0.003",
        "urgent.class_weights=balanced", "area.class_weights=balanced",
    )  # fmt: skip
    alone = train(tmp_path / "one", *settings, data=kinds_csv)
    assert alone.exit_code == 0, alone.output
    fixed = ("--encoder", str(tiny_phi), "--data", str(kinds_csv))
    result = launch("compare_every_step", *fixed, *settings, "--output", str(tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    seen = [len(row["tasks"]) for row in rows(tmp_path / "two")]
    assert min(seen) < max(seen) == len(KINDS)  # some steps lack a task, so ranks lack more
    assert_equal_but_for_rounding(tmp_path / "one", tmp_path / "two")
    one, two = (
        json.loads((tmp_path / f / "metrics.json").read_text())["splits"]["test"]
        for f in ("one", "two")
    )
    for name in KINDS:
        for key, value in one[name].items():
            if isinstance(value, float):
                assert two[name][key] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("what", "arguments", "fragment"),
    [
        ("nothing", ("--data", "nowhere.csv"), "nowhere.csv"),
        (
            "nan_in_step_5",
            (),
            "The loss of `reg` should be finite. Found nan at step 5, of",
        ),
        ("grow_apart", BOTH, "rank 1 of 0 to 1 differs"),
        ("disk_full_at_the_end", (), "No space left"),
    ],
)
def test_an_error_ends_all_ranks_with_one_line(
    pair: Launch, tmp_path: Path, what: str, arguments: tuple[str, ...], fragment: str
):
    result = pair(what, tmp_path / "run", *arguments, "train.epochs=1")
    assert result.returncode == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert fragment in line
    before = result.stderr.partition(line)[0]
    assert "Traceback" not in before
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_bug_on_one_rank_shows_its_traceback_alone(pair: Launch, tmp_path: Path):
    result = pair("stumble_in_step_5", tmp_path / "run", "train.epochs=1")
    assert result.returncode == 1
    assert result.stderr.count("ZeroDivisionError: a bug on the second rank") == 1
    assert "RuntimeError" not in result.stderr  # of the rank that waited for the second
