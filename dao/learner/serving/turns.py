"""One model, one inference at a time: who comes first is served first, and a full queue says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

__all__ = ["BusyError", "Turns"]

Result = TypeVar("Result")


class BusyError(Exception):
    """As many requests wait as may."""


class Queue:
    """Places of which there are so many.

    Attributes:
        most: there are.
        taken: now.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place within the block.

        Raises:
            BusyError: There is none.
        """
        if self.taken >= self.most:
            raise BusyError
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


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
        self._places = Queue(most)
        self._explanations = Queue(explanations)
        self.tables = asyncio.Semaphore(tables)
        self._model = ThreadPoolExecutor(1, "model")
        self._files = ThreadPoolExecutor(1, "files")

    @property
    def waiting(self) -> int:
        """Requests that wait or are answered."""
        return self._places.taken

    @property
    def explaining(self) -> int:
        """Those of them that ask for an explanation."""
        return self._explanations.taken

    def place(self) -> AbstractContextManager[None]:
        """Within the block a request has a place in the queue.

        Raises:
            BusyError: There is none.
        """
        return self._places.one()

    @contextmanager
    def place_to_explain(self) -> Iterator[None]:
        """As `place`, for a request for an explanation.

        Raises:
            BusyError: There is none.
        """
        with self._explanations.one(), self.place():
            yield

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
