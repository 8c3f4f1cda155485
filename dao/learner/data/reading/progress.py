"""Signs of life on stderr while a large source is read."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["ticking"]

EVERY = 5.0  # seconds
LOOK = 1000  # items between two looks at the clock

Item = TypeVar("Item")


def ticking(items: Iterable[Item], doing: str) -> Iterator[Item]:
    """Pass items on; every few seconds say how many there were, `doing` first."""
    last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if number % LOOK == 0 and (now := time.monotonic()) - last >= EVERY:
            print(f"{doing}: {number:,} rows", file=sys.stderr, flush=True)
            last = now
