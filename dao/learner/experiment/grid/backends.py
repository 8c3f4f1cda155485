"""Where the runs of an experiment are worked off: threads of this process, or workers of Ray."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from joblib import Parallel, delayed

from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.experiment.grid.forked import forked, forks, serve
from dao.learner.experiment.grid.job import Outcome, RunJob, run_job, started
from dao.learner.experiment.grid.waiting import Waiting

__all__ = ["check_room", "on_ray", "on_this_machine", "stopping"]

RETRIES = 3  # of a run whose worker or machine was lost
GOODBYE = 20.0  # seconds for workers to end their processes


def on_this_machine(jobs: Sequence[RunJob], workers: int) -> Generator[Outcome]:
    """Work off the jobs, so many at a time, and yield each as it ends.

    Raises:
        KeyboardInterrupt: told to stop (Ctrl-C, or SIGTERM); no process is left behind.
    """
    stop = threading.Event()
    busy = threading.Semaphore(workers)
    waiting = Waiting(jobs)
    start = started
    if all(forks(job.command) for job in jobs):
        serve(jobs[0].threads)
        start = forked

    def work() -> Outcome:
        with busy:
            job = waiting.take(stop)
            try:
                return run_job(job, stop, start)
            finally:
                waiting.ended(job)

    with stopping(stop):
        try:
            pool = Parallel(workers, backend="threading", return_as="generator_unordered")
            yield from pool(delayed(work)() for _ in jobs)
        except BaseException:
            stop.set()
            for _ in range(workers):  # until the last thread has ended its process
                busy.acquire()
            raise


def on_ray(jobs: Sequence[RunJob], workers: int | None) -> Generator[Outcome]:
    """Work off the jobs on the cluster that RAY_ADDRESS names, or on a local one.

    A job whose worker or machine is lost goes to another, where the run continues from its
    checkpoint: run folders and working directory have to be on a file system that all share.

    Args:
        jobs: each takes as many of Ray's CPUs as it has threads.
        workers: at a time; None: as many as the cluster has room for.

    Raises:
        UserError: Ray is not installed; or no machine of the cluster has room for a run.
        KeyboardInterrupt: told to stop; the workers have been told as well.
    """
    ray = _ray()
    ray.init(log_to_driver=False)
    try:
        check_room([node["Resources"] for node in ray.nodes() if node["Alive"]], jobs[0])
    except UserError:
        ray.shutdown()
        raise
    task = ray.remote(max_retries=RETRIES)(run_job)
    waiting = Waiting(jobs)
    pending: dict[Any, RunJob] = {}
    with stopping(threading.Event()):
        try:
            while waiting.left or pending:
                while len(pending) < (workers or len(jobs)) and (job := waiting.ready()):
                    room = task.options(num_cpus=job.threads, num_gpus=job.gpus, name=job.name)
                    pending[room.remote(job)] = job
                for ended in ray.wait(list(pending), timeout=1.0)[0]:
                    job = pending.pop(ended)
                    waiting.ended(job)
                    yield _outcome(ray, ended, job)
        except BaseException:
            for running in pending:
                ray.cancel(running)
            ray.wait(list(pending), num_returns=len(pending), timeout=GOODBYE)
            raise
        finally:
            ray.shutdown()


def check_room(machines: Sequence[Mapping[str, float]], job: RunJob) -> None:
    """Refuse a run for which no machine has room: Ray would wait for ever, and say nothing.

    Args:
        machines: what each has, as Ray names it.
        job: one run; all need the same.

    Raises:
        UserError: none has as many processors, or as many GPUs.
    """
    for name, needed, remedy in (
        ("CPU", job.threads, "Lower OMP_NUM_THREADS."),
        ("GPU", job.gpus, "Leave out --device cuda, or add a machine with a GPU."),
    ):
        most = max((machine.get(name, 0) for machine in machines), default=0)
        if needed > most:
            raise UserError(
                f"A run should fit on one machine of the cluster. Found that it takes {needed} "
                f"{name}, and that the largest has {most:g}. {remedy}"
            )


def _ray() -> Any:  # noqa: ANN401
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would phone home
    try:
        import ray
    except ImportError:
        raise UserError(
            f"--backend ray should find Ray. Found it not installed. Run: {install('cluster')}"
        ) from None
    return ray


def _outcome(ray: Any, ended: Any, job: RunJob) -> Outcome:  # noqa: ANN401
    try:
        outcome: Outcome = ray.get(ended)
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        return Outcome(job.name, False, 0, f"no worker brought it to its end: {reason}")
    return outcome


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGTERM does what Ctrl-C does, and both set `stop` before anything else happens."""

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
