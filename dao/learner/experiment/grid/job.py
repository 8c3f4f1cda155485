"""One run of the experiment as a process of its own: begun, continued, tried again.

Imports little, because a worker of a cluster has nothing else to load.
"""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

__all__ = ["HEADER", "After", "Outcome", "RunJob", "run_job", "started"]

HEADER = "== attempt "  # begins the line that a log has per process
ATTEMPTS = 2  # within one call, and only after a signal
PATIENCE = 10.0  # seconds that a process told to end is given
LONGEST_LINE = 500


@dataclass(frozen=True)
class After:
    """A run that has to finish before another begins, which copies its growths.

    Attributes:
        name: of the run, for people.
        folder: the run folder.
        lock: a file whose lock means that someone is at work in `folder`.
    """

    name: str
    folder: Path
    lock: Path


@dataclass(frozen=True)
class RunJob:
    """One run for a worker; relative paths start at `place`.

    Attributes:
        name: of the run, for people.
        folder: the run folder.
        lock: a file whose lock means that someone is at work in `folder`.
        command: what trains, with the arguments of `dao train` to follow.
        settings: the content of config.yaml.
        threads: for the arithmetic of one run.
        gpus: that it takes.
        place: the working directory.
        after: the run that has to finish before this one begins.
    """

    name: str
    folder: Path
    lock: Path
    command: tuple[str, ...]
    settings: str
    threads: int
    gpus: int
    place: Path
    after: After | None = None

    @property
    def log(self) -> Path:
        """Where everything goes that the processes of this run print."""
        return self.folder.with_name(f"{self.folder.name}.log")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        name: of the job.
        finished: whether metrics.json is there.
        attempts: processes that were started; 0 if somebody else has finished the run.
        reason: of a run that is not finished, the last line of its log.
        by_itself: whether its last process ended with an error, and no signal ended it.
    """

    name: str
    finished: bool
    attempts: int
    reason: str = ""
    by_itself: bool = False


class Child(Protocol):
    """A process at work on a run, with the methods of `subprocess.Popen`."""

    def poll(self) -> int | None:
        """The exit code, negative for the signal that killed it; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one; raises `subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Start(Protocol):
    """Starts a command as a process that holds a lock."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        place: Path,
        environment: dict[str, str],
        log: IO[str],
        lock: int,
    ) -> Child:
        """Its working directory, variables, where its output goes, and the lock's descriptor."""


def started(
    command: Sequence[str], *, place: Path, environment: dict[str, str], log: IO[str], lock: int
) -> Child:
    """Start a command as a process of its own; arguments as in `Start`."""
    return subprocess.Popen(
        command,
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        # So that the lock is held until the last of the two has ended: a process whose worker
        # was killed alone goes on, and nobody begins a second one in the same folder.
        pass_fds=(lock,),
    )


def run_job(job: RunJob, stop: threading.Event | None = None, start: Start = started) -> Outcome:
    """Bring one run to its end, unless it is there already.

    A run with a checkpoint is continued, any other begun. A process that was killed is replaced
    once; one that ended by itself with an error is not. Whoever else is at work in the folder is
    waited for, also a process that outlived the worker that started it, and so is whoever is at
    work on the run that has to finish first; where nobody is, this one fails.

    Args:
        job: what to run.
        stop: once set, the process is ended and nothing further begun.
        start: starts a process.
    """
    stop = stop or threading.Event()
    attempts, code = 0, 0
    try:
        if not _finished(job) and (missing := _not_there(job, stop)):
            return Outcome(job.name, False, 0, missing)
        with _held(job.place / job.lock, stop) as lock:
            while not stop.is_set() and not _finished(job) and attempts < ATTEMPTS and code <= 0:
                attempts += 1
                code = _process(job, lock, stop, start)
                if code == 0 and not _finished(job):
                    break
            finished = _finished(job)
        reason = "" if finished else _reason(job, code)
        return Outcome(job.name, finished, attempts, reason, not finished and code > 0)
    except OSError as error:  # the other runs go on
        return Outcome(job.name, False, attempts, str(error))


def _finished(job: RunJob) -> bool:
    return (job.place / job.folder / "metrics.json").is_file()


def _not_there(job: RunJob, stop: threading.Event) -> str:
    """Why the run cannot begin: another has not finished, and nobody is at work on it."""
    if job.after is None:
        return ""
    end = job.place / job.after.folder / "metrics.json"
    if not end.is_file():
        with _held(job.place / job.after.lock, stop):
            pass
    return "" if end.is_file() else f"{job.after.name}, whose growths it copies, has not finished"


def _process(job: RunJob, lock: int, stop: threading.Event, start: Start) -> int:
    """Start the training and wait; its exit code, negative for the signal that killed it."""
    command = [*job.command, *_arguments(job)]
    threads = str(job.threads)
    with (job.place / job.log).open("a", encoding="utf-8", errors="replace") as log:
        count = _attempts(job) + 1
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        print(f"{HEADER}{count}, {platform.node()}, {now}", file=log, flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        child = start(command, place=job.place, environment=environment, log=log, lock=lock)
        try:
            while child.poll() is None and not stop.wait(0.1):
                pass
        finally:
            _end(child)
        code = child.wait()
        if code < 0:
            print(f"killed by signal {-code}", file=log)
    return code


def _arguments(job: RunJob) -> list[str]:
    folder = job.place / job.folder
    for file in folder.glob("*.partial"):  # of a process killed while it wrote
        if file.is_file():
            file.unlink()
    if (folder / "checkpoints" / "latest").is_file():
        return ["--resume", str(job.folder)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(job.settings, encoding="utf-8")
    return ["--config", str(job.folder / "config.yaml"), "--overwrite"]


def _attempts(job: RunJob) -> int:
    text = (job.place / job.log).read_text(encoding="utf-8", errors="replace")
    return sum(line.startswith(HEADER) for line in text.splitlines())


def _end(child: Child) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _reason(job: RunJob, code: int) -> str:
    if not (job.place / job.log).is_file():
        return "not begun"
    text = (job.place / job.log).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[-1].startswith(HEADER):
        return f"nothing printed, exit code {code}"
    return lines[-1][-LONGEST_LINE:]


@contextmanager
def _held(path: Path, stop: threading.Event) -> Iterator[int]:
    """Wait for the lock and hold it; its file descriptor.

    The lock is the open file's, which a child shares, and on a network file system it counts on
    all machines. Not waited for once `stop` is set.
    """
    with _opened(path) as file:
        while not _locked(file) and not stop.wait(0.5):
            pass
        yield file.fileno()


def _opened(path: Path) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # who ends elsewhere removes the folder when it is empty
            return path.open("a", encoding="utf-8")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
