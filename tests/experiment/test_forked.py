"""A run that is forked is what one with a Python of its own would be."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dao.learner.experiment.grid.forked import forked, forks, serve
from dao.learner.experiment.grid.job import RunJob, run_job, started

LOOK = """
import atexit, json, os, sys
import torch
from look_beside import BESIDE
atexit.register(print, "at the end")
print(json.dumps({
    "argv": sys.argv, "place": os.getcwd(), "name": __name__, "beside": BESIDE,
    "threads": torch.get_num_threads(), "variable": os.environ.get("TRIED"),
    "input": sys.stdin.read(), "terminal": sys.stdout.isatty(),
}))
print("to the other stream", file=sys.stderr)
"""
WAYS = [pytest.param(started, id="process"), pytest.param(forked, id="fork")]


@pytest.fixture(scope="module", autouse=True)
def _serving():
    serve(1)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **more}


def ended(start, folder: Path, *arguments: str, **more: str) -> tuple[int, list[str]]:
    """Exit code and printed lines of a command."""
    with (folder / "log").open("w") as log, (folder / "lock").open("w") as lock:
        command = (sys.executable, *arguments)
        child = start(
            command, place=folder, environment=environment(**more), log=log, lock=lock.fileno()
        )
        code = child.wait(60)
        assert child.poll() == code
    return code, (folder / "log").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "-m"])
def test_it_sees_the_same(tmp_path: Path, how: str):
    (tmp_path / "look.py").write_text(LOOK)
    (tmp_path / "look_beside.py").write_text("BESIDE = 'a module beside the script'")
    command = [str(tmp_path / "look.py")] if how == "script" else ["-m", "look"]
    cold, warm = (
        ended(start, tmp_path, *command, "one", "t wo", TRIED="ä") for start in (started, forked)
    )
    assert cold[0] == warm[0] == 0
    assert sorted(cold[1]) == sorted(warm[1])
    seen = json.loads(next(line for line in warm[1] if line.startswith("{")))
    assert seen["argv"][1:] == ["one", "t wo"]
    assert seen["beside"] == "a module beside the script"
    assert warm[1][-1] == "at the end"


@pytest.mark.slow
@pytest.mark.parametrize("start", WAYS)
@pytest.mark.parametrize(
    ("code", "expected", "last"),
    [
        ("import sys; sys.exit(3)", 3, None),
        ("import sys; sys.exit('error: in words')", 1, "error: in words"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, None),
        ("import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, None),
    ],
)
def test_it_ends_the_same(start, tmp_path: Path, code: str, expected: int, last: str | None):
    (tmp_path / "script.py").write_text(code)
    found, lines = ended(start, tmp_path, "script.py")
    assert found == expected
    assert (lines[-1] if lines else None) == last


@pytest.mark.slow
@pytest.mark.parametrize("start", WAYS)
def test_the_lock_is_held_until_it_ends(start, tmp_path: Path):
    (tmp_path / "script.py").write_text("import time\ntime.sleep(600)")
    with (tmp_path / "log").open("w") as log, (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = start(
            (sys.executable, "script.py"), place=tmp_path, environment=environment(), log=log,
            lock=lock.fileno(),
        )  # fmt: skip
    with (tmp_path / "lock").open() as other:  # whoever started it has closed its own
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        child.kill()
        assert child.wait(60) == -9
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_ends(tmp_path: Path):
    (tmp_path / "script.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)")
    job = RunJob(
        "base/0", tmp_path / "run", tmp_path / "lock", (sys.executable, "script.py"), "", 1, 0,
        tmp_path,
    )  # fmt: skip
    stop = threading.Event()
    found = []
    work = threading.Thread(target=lambda: found.append(run_job(job, stop, forked)))
    work.start()
    while not (job.log.is_file() and "ready" in job.log.read_text()):
        time.sleep(0.05)
    stop.set()
    work.join(30)
    assert [(outcome.finished, outcome.by_itself) for outcome in found] == [(False, False)]
    assert job.log.read_text().splitlines()[-1] == "killed by signal 15"


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ((sys.executable, "train.py"), True), ((sys.executable, "-m", "dao", "train"), True),
        ((sys.executable, "-c", "1"), False), ((sys.executable, "-X", "dev", "train.py"), False),
        (("srun", sys.executable, "train.py"), False), ((sys.executable,), False),
    ],
)  # fmt: skip
def test_which_commands_a_fork_can_run(command: tuple[str, ...], found: bool):
    assert forks(command) is found
