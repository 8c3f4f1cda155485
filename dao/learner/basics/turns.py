"""Timing in turns: what is compared meets the same other load on the machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

__all__ = ["forth_and_back", "in_turns", "timed"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def timed(run: Callable[[T], object]) -> Callable[[T], float]:
    """The same function, which then returns the seconds that it took."""

    def seconds(given: T) -> float:
        began = time.perf_counter()
        run(given)
        return time.perf_counter() - began

    return seconds


def forth_and_back(number: int, names: Sequence[K]) -> Sequence[K]:
    """All of them, at every second input in reverse."""
    return names[:: -1 if number % 2 else 1]


def in_turns(
    runners: Mapping[K, Callable[[T], float]],
    inputs: Iterable[T],
    order: Callable[[int, Sequence[K]], Iterable[K]] = lambda _, names: names,
    *,
    limit: float = math.inf,
) -> Iterator[tuple[int, K, float]]:
    """Every runner takes an input before any takes the next one.

    Args:
        runners: by name; each takes an input and returns the seconds that it took.
        inputs: one per turn.
        order: number of the turn and all names -> those who take it, in this order.
        limit: seconds from the first turn on, after which no further turn begins.

    Yields:
        Number of the turn, name of the runner, seconds.

    Example:
        >>> runners = {"a": lambda x: x, "b": lambda x: 2 * x}
        >>> list(in_turns(runners, [1.0, 3.0], forth_and_back))
        [(0, 'a', 1.0), (0, 'b', 2.0), (1, 'b', 6.0), (1, 'a', 3.0)]
    """
    names, began = list(runners), time.perf_counter()
    for number, given in enumerate(inputs):
        for name in order(number, names):
            yield number, name, runners[name](given)
        if time.perf_counter() - began > limit:
            break
