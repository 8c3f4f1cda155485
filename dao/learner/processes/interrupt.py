"""Ctrl-C between two steps, where everything can be saved, instead of anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dao.learner.processes import ranks

__all__ = ["deferred_interrupt"]


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Remember a first Ctrl-C until the yielded function is asked; a second one acts at once.

    Nothing changes outside of the main thread, where Ctrl-C does not raise KeyboardInterrupt, or
    with several ranks, which may not hear of it at the same step.
    """
    pressed: list[int] = []
    usual = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: FrameType | None) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and usual is signal.default_int_handler and not ranks.several()
    if ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(pressed)
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)
