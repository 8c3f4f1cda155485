"""Connections that end where a client neither asks nor reads: uvicorn waits for both for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["patient"]

SLOWEST = 1 << 18
"""Bytes of an answer that a client has to take from one look at its connection to the next."""


def patient(seconds: float, most: int) -> type[H11Protocol]:
    """Connections that are looked at every so many seconds, and end after two looks in vain.

    Between the looks a client has to send the whole head of a request, and to take 256 KiB of an
    answer, or the rest of it. `Guard` watches the body of a request.

    Args:
        seconds: From one look to the next.
        most: Connections at one time; a further one ends at once.
    """

    class Patient(H11Protocol):
        """A connection that is looked at now and then."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Begin, and look later; end where there are too many."""
            super().connection_made(transport)
            self._seen: tuple[Any, bool, int] | None = None
            self._look_later = self.loop.call_later(seconds, self._look)
            if len(self.connections) > most:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            """End, and look no more."""
            self._look_later.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            answered = self.cycle is None or self.cycle.response_complete
            unread = self.transport.get_write_buffer_size()
            stuck = self._seen is not None and (
                self.cycle is self._seen[0] and unread > self._seen[2] - SLOWEST
                if unread and self._seen[2]
                else (self.cycle, answered, unread) == self._seen and answered
            )
            if stuck:
                self.transport.abort()
                return
            self._seen = (self.cycle, answered, unread)
            self._look_later = self.loop.call_later(seconds, self._look)

    return Patient
