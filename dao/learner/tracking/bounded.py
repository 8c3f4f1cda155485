"""Calls of another package that may never come back: each gets so many seconds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

__all__ = ["Bounded"]

Result = TypeVar("Result")


class Bounded:
    """A thread that makes calls in order, for one that waits no longer than it wants to.

    All calls come from the same thread, because some trackers keep their run by thread. It ends
    with the process, whatever its last call is at.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        Thread(target=self._work, name=name, daemon=True).start()

    def __call__(self, call: Callable[[], Result], seconds: float) -> Result:
        """What a call returns. One that comes too late may still do what it does.

        Args:
            call: is made once all earlier ones are done.
            seconds: to wait for it.

        Raises:
            TimeoutError: it is not done in time, and no further call should be made.
            Exception: whatever it raises.
        """
        made: Future[Result] = Future()
        self._calls.put((call, made))
        try:
            return made.result(seconds)
        except TimeoutError:
            if made.done():  # just now, or the call itself ran out of time
                return made.result()
            raise TimeoutError(f"it did not answer within {seconds:g} s") from None

    def _work(self) -> None:
        while True:
            call, made = self._calls.get()
            try:
                made.set_result(call())
            except BaseException as error:
                made.set_exception(error)
