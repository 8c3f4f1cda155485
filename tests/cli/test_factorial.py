"""The experiment with real runs: killed and given again, and on a cluster that loses a machine."""

import fnmatch
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from dao.learner.experiment.grid.job import HEADER
from dao.learner.experiment.grid.runner import conclude
from tests.conftest import no_pictures

ROOT = Path(__file__).parents[2]
HERE = ("base/0", "dao/0", "reg/0")
THERE = ("dao/0", "cls/0")
TRAIN = """
import runpy, sys
_, sys.executable, *sys.argv = sys.argv
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""`train.py`, whose runs are processes of another Python."""
Arguments = Callable[..., list[str]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def arguments(tiny_phi: Path, tiny_csv: Path) -> Arguments:
    """Of train.py, for some cells of a tiny experiment."""

    def make(output: Path, cells: tuple[str, ...], *more: str) -> list[str]:
        only = [word for cell in cells for word in ("--only", cell)]
        return [
            *("--tasks", "cls,reg", "--factorial", "--seeds", "1", *only),
            *("--encoder", str(tiny_phi), "--data", str(tiny_csv), "--output", str(output)),
            *("--config", str(ROOT / "configs" / "factorial-quick.yaml"), *more),
        ]

    return make


def again(arguments: list[str]) -> Result:
    """The command in this process, which saves its start; the runs have their own."""
    from train import app

    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def run_folder(output: Path, cell: str) -> Path:
    return output / cell.replace("/", "/seed=")


def log(output: Path, cell: str) -> str:
    return Path(f"{run_folder(output, cell)}.log").read_text()


def files_below(output: Path, pattern: str) -> list[Path]:
    """Files below `output`; `rglob` fails where a run puts a folder in place meanwhile."""
    places = [(folder, names) for folder, _, names in os.walk(output)]
    return [Path(f, name) for f, names in places for name in fnmatch.filter(names, pattern)]


def finished(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in files_below(output, "metrics.json")}


def results(output: Path, cell: str) -> Any:
    metrics = json.loads((run_folder(output, cell) / "metrics.json").read_text())
    return {key: metrics[key] for key in ("splits", "slices", "loss_weights", "parameters")}


@pytest.fixture
def start(warm_python: str, tmp_path: Path) -> Iterator[Start]:
    """`train.py` in a session of its own, of which nothing runs on where a test fails.

    Its runs are warm: they have what they import.
    """
    started: list[subprocess.Popen[bytes]] = []
    # Ray gives its workers a variable that only a new Python reads.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec env -u PYTHONBREAKPOINT {warm_python} "$@"\n')
    python.chmod(0o755)

    def begin(given: list[str], **variables: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", TRAIN, str(python), str(ROOT / "train.py"), *given]
        environment = {**os.environ, **variables}
        started.append(subprocess.Popen(command, start_new_session=True, env=environment, cwd=ROOT))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--seeds 3", 2, "--seeds needs --factorial"),
        ("--jobs 2 --tasks cls", 2, "--jobs needs --factorial"),
        ("--factorial --overwrite", 2, "leave out --resume"),
        ("--factorial --resume RUN", 2, "leave out --resume"),
        ("--arms base --tasks cls", 2, "--arms needs --factorial"),
        ("--factorial --tasks cls --arms base,dao", 1, "Found 'dao' for --tasks cls alone"),
        ("--factorial --arms base,", 1, "Found ''"),
        ("--factorial --dao", 1, "`weighting` should be left to the arms"),
        ("--factorial --no-dendrites", 1, "`dendrites.enabled` should be left to the arms"),
        ("--factorial --data absent.csv", 1, "absent.csv should be a file"),
    ],
)
def test_what_does_not_fit_together(words: str, code: int, said: str):
    result = again(words.split())
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert code == 2 or len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_sigkill_of_everything_and_the_same_command_again(
    arguments: Arguments,
    start: Start,
    warm_python: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    output = tmp_path / "killed"
    two = arguments(output, HERE, "--jobs", "2")
    process = start(two)

    def half(history: Path) -> bool:
        return len(history.read_text().splitlines()) < 10

    def in_the_middle() -> bool:
        done = {path.parent for path in finished(output)}
        # Well before its end: what is killed here is killed there a moment later.
        begun = {path.parent for path in files_below(output, "history.jsonl") if half(path)}
        return bool(done) and bool(begun - done)

    wait_for(in_the_middle, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = finished(output)
    assert 1 <= len(before) < len(HERE)
    monkeypatch.setattr(sys, "executable", warm_python)  # of all runs from here on
    with no_pictures():  # `conclude` below draws them
        assert again(two).exit_code == 0
    after = finished(output)
    assert len(after) == len(HERE)
    assert {path: after[path] for path in before} == before
    untouched = [c for c in HERE if run_folder(output, c) / "metrics.json" in before]
    assert {log(output, cell).count(HEADER) for cell in untouched} == {1}
    assert {log(output, cell).count(HEADER) for cell in HERE} == {1, 2}

    other, cells = tmp_path / "undisturbed", HERE[:2]
    with no_pictures():
        assert again(arguments(other, cells, "--jobs", "1")).exit_code == 0
    assert {c: results(other, c) for c in cells} == {c: results(output, c) for c in cells}

    conclude(output)
    found = json.loads((output / "findings.json").read_text())
    assert all(arm["latency_ms"] > 0 for arm in found["arms"].values())
    report = (output / "report.md").read_text()
    assert "| dao - base | 1 |" in report
    assert "| base - reg alone | 1 |" in report
    assert "Missing arms: dendrites, dao+dendrites, sham, capacity, cls alone." in report
    assert "report.html" in capsys.readouterr().out

    refused = again([*two, "train.lr=0.5"])
    assert refused.exit_code == 1
    assert "`train.lr` 0.01 in place of 0.5" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert finished(output) == after


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine of Ray with one processor, to which others can be added."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Whether a cluster is open to all is otherwise up to Ray's version and the home directory.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "include_dashboard": False,
            "_system_config": {  # that a machine is lost is noticed in 3 seconds instead of 15
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 1000,
                "health_check_failure_threshold": 3,
            },
        },
    )
    yield made
    made.shutdown()


def trained_below(process: psutil.Process, output: Path) -> str:
    """The cell that a descendant of the process trains; empty: none."""
    lines = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended since
            lines.append(" ".join(child.cmdline()))
    found = [cell for cell in THERE for line in lines if f"{run_folder(output, cell)}/" in line]
    return found[0] if found else ""


@pytest.mark.slow
def test_a_machine_of_the_cluster_is_lost(
    cluster: Any, arguments: Arguments, start: Start, tmp_path: Path
):
    second = cluster.add_node(num_cpus=1)
    output = tmp_path / "ray"
    process = start(arguments(output, THERE, "--backend", "ray"), RAY_ADDRESS=cluster.address)
    wait_for(lambda: len(files_below(output, "*.log")) == 2, process)

    there = psutil.Process(second.all_processes["raylet"][0].process.pid)
    wait_for(lambda: trained_below(there, output), process)
    lost = trained_below(there, output)
    wait_for((run_folder(output, lost) / "checkpoints" / "latest").exists, process)
    # A machine that is lost takes all of its processes with it.
    for one in there.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    cluster.remove_node(second, allow_graceful=False)
    assert process.wait() == 0

    assert {path.parent for path in finished(output)} == {run_folder(output, c) for c in THERE}
    attempts = {cell: log(output, cell).count(HEADER) for cell in THERE}
    assert attempts == {**dict.fromkeys(THERE, 1), lost: 2}
    for cell in THERE:
        history = (run_folder(output, cell) / "history.jsonl").read_text().splitlines()
        steps = [json.loads(row)["step"] for row in history]
        assert steps == list(range(1, 17 if cell == "cls/0" else 21))  # a fifth has no class


@pytest.mark.slow
@pytest.mark.usefixtures("warm_runs", "without_pictures")
def test_an_experiment_whose_dendrites_wait_for_a_plateau(arguments: Arguments, tmp_path: Path):
    output = tmp_path / "patient"
    settings = (
        "dendrites.patience=1", "dendrites.max_sets=1", "train.validations_per_epoch=5",
        "train.lr=0.1", "dendrites.lr=3",
    )  # fmt: skip
    arms = ["base", "dendrites", "sham", "capacity", "restart-lr"]
    chosen = ",".join([*arms, "reg"])
    given = arguments(output, (), "--arms", chosen, "--jobs", "2", *settings)
    assert again(given).exit_code == 0
    training = {
        arm: json.loads((output / arm / "seed=0" / "metrics.json").read_text())["training"]
        for arm in arms
    }
    keys = ("steps", "restarted_after_steps", "growth_over_after_step")
    assert len({json.dumps([found[key] for key in keys]) for found in training.values()}) == 1
    assert training["dendrites"]["restarted_after_steps"]
    thrown = {arm: training[arm]["thrown_away_steps"] for arm in ("base", "sham")}
    assert thrown["base"] == thrown["sham"] > 0
    found = json.loads((output / "findings.json").read_text())
    names = {effect["name"] for effect in found["effects"]}
    assert {"dendrites - sham", "dendrites - restart-lr", "dendrites - capacity"} <= names
    assert again(given).exit_code == 0  # nothing is left to do, and nothing refused
