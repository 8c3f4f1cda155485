"""One model, one inference at a time: who comes first is served first, and a full queue says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["BusyError", "Turns"]

Result = TypeVar("Result")


class BusyError(Exception):
    """As many requests wait as may."""


class Turns:
    """A queue in front of one thread that runs the model, and of one that reads files.

    The model is always run by the same thread, so that torch keeps one team of threads for it. A
    long file is read beside it, and goes through the queue part by part.

    Args:
        most: Requests that may wait or be answered at one time.
        tables: Files whose tables may be in memory at one time.
        explanations: Requests for an explanation, which take long, among the `most`.
    """

    def __init__(self, most: int, tables: int = 1, explanations: int = 1) -> None:
        self.most = most
        self.explanations = explanations
        self.tables = asyncio.Semaphore(tables)
        self.waiting = 0
        self.explaining = 0
        self._model = ThreadPoolExecutor(1, "model")
        self._files = ThreadPoolExecutor(1, "files")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Within the block a request has a place in the queue.

        Raises:
            BusyError: There is none.
        """
        if self.waiting >= self.most:
            raise BusyError
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @contextmanager
    def place_to_explain(self) -> Iterator[None]:
        """As `place`, for a request for an explanation.

        Raises:
            BusyError: There is none.
        """
        if self.explaining >= self.explanations:
            raise BusyError
        with self.place():
            self.explaining += 1
            try:
                yield
            finally:
                self.explaining -= 1

    async def model(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, once it had its turn at the model."""
        return await asyncio.get_running_loop().run_in_executor(self._model, work)

    async def files(self, work: Callable[[], Result]) -> Result:
        """What `work` returns, once it had its turn at reading files."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def close(self) -> None:
        """Let the work that has begun come to its end, and begin none of the rest."""
        for threads in (self._model, self._files):
            threads.shutdown(wait=False, cancel_futures=True)
