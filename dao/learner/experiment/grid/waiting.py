"""Runs that wait for their turn: in their order, but none before the run that it copies."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dao.learner.experiment.grid.job import RunJob

__all__ = ["Waiting"]


class Waiting:
    """Gives out jobs, the first that is ready first; any number of threads may take them.

    A job is ready when the one that it has to come after, if that is among these, has ended, well
    or badly.

    Args:
        jobs: in the order in which they are wanted.
    """

    def __init__(self, jobs: Sequence[RunJob]) -> None:
        self._waiting = list(jobs)
        self._open = {job.name for job in jobs}
        self._changed = threading.Condition()

    @property
    def left(self) -> int:
        """How many were not given out yet."""
        return len(self._waiting)

    def ready(self) -> RunJob | None:
        """The next job; None where all are given out, or wait for one that is at work."""
        with self._changed:
            for job in self._waiting:
                if job.after is None or job.after.name not in self._open:
                    self._waiting.remove(job)
                    return job
            return None

    def take(self, stop: threading.Event) -> RunJob:
        """The next job, waited for; once `stop` is set, any.

        Args:
            stop: set when nothing further should begin.
        """
        with self._changed:
            while (job := self.ready()) is None:
                if stop.is_set():
                    return self._waiting.pop()
                self._changed.wait(0.5)
            return job

    def ended(self, job: RunJob) -> None:
        """Say that a job has ended, for which others may have waited."""
        with self._changed:
            self._open.discard(job.name)
            self._changed.notify_all()
