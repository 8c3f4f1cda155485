"""A warm process is, to whoever starts it, what one of Python's own would be."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import NO_GRAPH, SMALL

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]
Both = Callable[..., tuple[Done, Done]]
LOOK = """
import json, os, sys
seen = {
    "argv": sys.argv, "name": __name__, "place": os.getcwd(), "path": sys.path[0],
    "terminals": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "input": sys.stdin.read(), "variable": os.environ.get("TRIED"), "home": "HOME" in os.environ,
    "file": os.pread(int(os.environ["FILE"]), 9, 0).decode(),
}
print(json.dumps(seen))
print("to the other stream", file=sys.stderr)
"""


@pytest.fixture
def both(warm_python: str) -> Both:
    """Runs a command with Python itself and as a warm process."""

    def run(*arguments: object, **options: Any) -> tuple[Done, Done]:
        words = list(map(str, arguments))
        cold, warm = (
            subprocess.run([python, *words], capture_output=True, text=True, timeout=300, **options)
            for python in (sys.executable, warm_python)
        )
        return cold, warm

    return run


def answer(done: Done) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", ["script", "-m", "-c", "-u"])
def test_it_sees_the_same(both: Both, tmp_path: Path, how: str):
    (tmp_path / "look.py").write_text(LOOK)
    (tmp_path / "nine").write_text("and a file")
    command = {"script": ["look.py"], "-m": ["-m", "look"], "-c": ["-c", LOOK],
               "-u": ["-u", tmp_path / "look.py"]}[how]  # fmt: skip
    hidden = ("HOME", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"TRIED": "ä \udce4"}
    with (tmp_path / "nine").open() as file:
        environment["FILE"] = str(file.fileno())
        options = {"input": "typed", "cwd": tmp_path, "env": environment}
        cold, warm = both(*command, "one", "t wo", pass_fds=(file.fileno(),), **options)
    assert answer(cold) == answer(warm)
    seen = json.loads(warm.stdout)
    assert (seen["input"], seen["file"], seen["home"]) == ("typed", "and a fil", False)


@pytest.mark.parametrize(
    "code",
    ["", "import sys; sys.exit()", "import sys; sys.exit(3)", "import sys; sys.exit('in words')",
     "import sys; sys.exit(True)", "import os; os._exit(4)", "print('no line', end='')",
     "import atexit; atexit.register(print, 'at the end')",
     "import threading as t; t.Timer(0.1, print, ['of a thread']).start()"],
)  # fmt: skip
def test_it_ends_the_same(both: Both, code: str):
    cold, warm = both("-c", code)
    assert answer(cold) == answer(warm)


@pytest.mark.parametrize("code", ["1 / 0", "raise KeyboardInterrupt", "import no_such_module"])
def test_it_fails_the_same(both: Both, code: str):
    cold, warm = both("-c", f"print('before')\n{code}")
    assert (cold.returncode, cold.stdout) == (warm.returncode, warm.stdout)
    last = [done.stderr.splitlines()[-1] for done in (cold, warm)]
    assert last[0] == last[1]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGSEGV"])
def test_a_signal_ends_it_the_same(both: Both, name: str):
    # Not `signal.pause`, which waits on where another thread of the process got the signal.
    code = (
        f"import os, signal, time; os.kill(os.getpid(), signal.{name})\n"
        "for _ in range(100): time.sleep(0.05)"
    )
    assert [done.returncode for done in both("-c", code)] == [-signal.Signals[name]] * 2


HANDLES = """
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(7))
print("ready", flush=True)
while True:
    time.sleep(0.05)  # a signal between two statements would leave `signal.pause` waiting
"""


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that a test which fails does not wait for."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_reaches_it(warm_python: str, name: str):
    command = [warm_python, "-c", HANDLES.format(name=name)]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[name])
        assert process.wait(60) == 7


def test_killed_it_is_gone(warm_python: str, tmp_path: Path):
    lock = tmp_path / "lock"
    code = (f"import fcntl, time; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX)"
            "\nprint('held', flush=True); time.sleep(600)")  # fmt: skip
    with running([warm_python, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    with lock.open() as file:
        deadline = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                break


def test_what_python_reads_at_its_start_is_refused(warm_python: str):
    run = {"capture_output": True, "text": True}
    other = {**os.environ, "OMP_NUM_THREADS": "3"}
    done = subprocess.run([warm_python, "-c", ""], env=other, **run)
    assert (done.returncode, "OMP_NUM_THREADS is read when" in done.stderr) == (1, True)
    done = subprocess.run([warm_python, "-X", "dev", "-c", ""], **run)
    assert (done.returncode, "The option -X" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "command"),
    [
        (0, ["-m", "dao", "--version"]),
        (1, ["-m", "dao", "predict", "nowhere", "--text", "sales fell"]),
        (2, ["train.py", "--no-such-flag"]),
    ],
)
def test_commands_answer_the_same(both: Both, code: int, command: list[str]):
    """What a warm run answers is looked at in `test_evaluate.py` and `test_train.py`."""
    cold, warm = both(*command, cwd=ROOT, stdin=subprocess.DEVNULL)
    assert cold.returncode == code, cold.stderr
    assert answer(cold) == answer(warm)


@pytest.mark.slow
def test_ctrl_c_ends_training(warm_python: str, tiny_phi: Path, tiny_csv: Path, tmp_path: Path):
    folder = tmp_path / "run"
    places = ("--encoder", tiny_phi, "--data", tiny_csv, "--output", folder)
    words = map(str, (*places, *SMALL, NO_GRAPH, "train.epochs=200"))
    command = [warm_python, str(ROOT / "train.py"), *words]
    with running(command, stderr=subprocess.PIPE, text=True) as process:
        history = folder / "history.jsonl"
        while process.poll() is None and not (history.exists() and history.read_text()):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=120)[1]
    assert process.returncode == 130, told
    assert f"--resume {folder}" in told.splitlines()[-1]
