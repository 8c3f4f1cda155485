"""Runs as forks of one process that has imported their packages, which takes most of their start.

That process is the fork server of Python's multiprocessing. It computes nothing, so it has no
threads that a fork would lack, and it ends with the last process that uses it.
"""

from __future__ import annotations

import atexit
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, get_context, reduction
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO, Any

import torch

__all__ = ["Forked", "forked", "forks", "serve"]

PRELOADED = "dao.learner.experiment.preloaded"
READ_AT_START = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by the libraries of arithmetic


def forks(command: Sequence[str]) -> bool:
    """Whether a command is this Python with a script or a module, which a fork can run."""
    python, *arguments = command
    script_or_module = bool(arguments) and (arguments[0] == "-m" or arguments[0][:1] != "-")
    return python == sys.executable and script_or_module


def serve(threads: int) -> None:
    """Start the process that forks, unless it runs.

    Args:
        threads: for the arithmetic of each run.
    """
    before = {name: os.environ.get(name) for name in READ_AT_START}
    os.environ.update(dict.fromkeys(READ_AT_START, str(threads)))
    try:
        context = get_context("forkserver")
        context.set_executable(sys.executable)  # which `forks` has compared the command with
        context.set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Forked:
    """A fork with the methods of `subprocess.Popen` that a run needs."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        """The exit code, negative for the signal that killed it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one.

        Raises:
            subprocess.TimeoutExpired: there is none after so many seconds.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()


def forked(
    command: Sequence[str], *, place: Path, environment: dict[str, str], log: IO[str], lock: int
) -> Forked:
    """Run a command of this Python as a fork.

    Args:
        command: for which `forks` is true.
        place: the working directory.
        environment: its variables.
        log: gets all that it prints.
        lock: a file descriptor that stays open until it ends.
    """
    arguments = (list(command[1:]), str(place), environment, _Handed(log.fileno()), _Handed(lock))
    process = get_context("forkserver").Process(target=_run, args=arguments)
    process.start()
    return Forked(process)


class _Handed:
    """A file descriptor that the fork gets as its own, of the same open file."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self._file),)


def _received(handed: Any) -> int:  # noqa: ANN401
    file: int = handed.detach()
    return file


def _run(
    arguments: list[str], place: str, environment: dict[str, str], log: int, lock: int
) -> None:
    del lock  # it is open as long as the process is there
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    what, *rest = arguments
    try:
        if what == "-m":
            sys.argv = rest
            sys.path.insert(0, place)
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(what).resolve().parent))
            runpy.run_path(what, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # trackers end here; multiprocessing calls none of them
