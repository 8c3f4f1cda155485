"""What is refused before the app sees it, and the headers of every answer.

A page of another site can make a browser send requests to this machine. The name in `Host` shows
that a name of that site was pointed here (DNS rebinding), and `Origin` which site it was.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Collection, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dao.learner.serving.limits import Limits
from dao.learner.serving.problems import AGAIN, UPLOAD, problem

__all__ = ["ANY_NAME", "HEADERS", "Guard", "is_loopback", "names_of"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_NAME = "*"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::\d*)?")
LAST = {"Connection": "close"}
"""Header of an answer to a client whose further bytes are not waited for."""
DRAINED = 4
"""A body is read up to so many times its limit, so that its client is there to read the answer."""


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server with this address.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    return ip_address(host).is_loopback if _is_address(host) else host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def names_of(host: str, allowed: Sequence[str]) -> set[str]:
    """The names by which a server may be called that listens at an address.

    Args:
        host: Where it listens.
        allowed: Further names; `*` for any.
    """
    names = {*LOOPBACK, host, *allowed}
    if is_loopback(host):
        return names
    own = socket.gethostname()
    first = own.partition(".")[0]
    return {*names, own, first, f"{first}.local", socket.getfqdn()}


class Guard:
    """An app behind checks of the host, the origin and the size of every request.

    Args:
        app: What answers the requests that are right.
        limits: Of the size, alone and of all requests together, and of how long it may take.
        hosts: Names by which the server may be called, as of `names_of`.
        origins: Names of the hosts of pages that may ask it, beside the page of its own.
        addresses: Whether it may be called by any address, as where other machines reach it: the
            page of another site can point a name of its own here, and no address.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        hosts: Collection[str] = LOOPBACK,
        origins: Collection[str] = (),
        addresses: bool = False,
    ) -> None:
        self.app = app
        self.limits = limits
        self.room = _Room(limits.held)
        self.hosts = {name.lower() for name in hosts}
        self.origins = {name.lower() for name in origins}
        self.addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        limit = self.limits.file if scope["path"] == UPLOAD else self.limits.body
        body = _Body(receive, self.room, limit, self.limits)
        answer = _Answer(send, self.room, self.limits.body)
        try:
            self._check(Headers(scope=scope), limit)
        except HTTPException as error:
            await body.drain()
            refusal = problem(error.status_code, error.detail, error.headers)
            await refusal(scope, receive, answer.send)
            return
        try:
            await self.app(scope, body.receive, answer.send)
        finally:
            body.let_go()

    def _check(self, headers: Headers, limit: int) -> None:
        """Raise what is wrong with the headers of a request."""
        host = headers.get("host", "")
        if not self._is_own(_name(host)):
            raise HTTPException(
                400,
                f"The server should be called by a name that it was given. Found the host "
                f"{host[:80]!r}. Use its address, or start it with --allow-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None:
            _, _, asking = origin.partition("://")
            if asking.lower() != host.lower() and _name(asking) not in self.origins:
                raise HTTPException(
                    403, f"Only the server's own page may ask it. Found the origin {origin[:80]!r}."
                )
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            if int(length[:20]) > limit:
                raise _too_large(limit)
            if not self.room.has(int(length[:20])):
                raise _no_room()

    def _is_own(self, name: str) -> bool:
        if not {name, ANY_NAME}.isdisjoint(self.hosts):
            return True
        return self.addresses and _is_address(name)


class _Room:
    """What the bodies of all requests that wait, and all unread answers, may hold together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def has(self, size: int) -> bool:
        """Whether so many bytes more may be held."""
        return self.held + size <= self.most


class _Body:
    """The body of a request, counted as it comes."""

    def __init__(self, receive: Receive, room: _Room, limit: int, limits: Limits) -> None:
        self._receive = receive
        self._room = room
        self.limit = limit
        self.seconds = limits.seconds
        self.arrival = limits.arrival
        self.end = asyncio.get_running_loop().time() + limits.arrival
        self.size = 0
        self.held = 0
        self.whole = False

    async def receive(self) -> Message:
        """The next part of the body, then what comes behind it.

        Raises:
            HTTPException: It is too large, or does not come.
        """
        if self.whole:
            return await self._receive()
        try:
            message = await self._next()
        except TimeoutError:
            self.whole = True
            raise _late(self) from None
        if self.size > self.limit:
            await self.drain()
            raise _too_large(self.limit)
        size = len(message.get("body", b""))
        if not self._room.has(size):
            self.let_go()
            await self.drain()
            raise _no_room()
        self.held += size
        self._room.held += size
        return message

    def let_go(self) -> None:
        """Give back what the body held, which nobody needs any more."""
        self._room.held -= self.held
        self.held = 0

    async def drain(self) -> None:
        """Read on without keeping anything, up to a bound."""
        try:
            while not self.whole and self.size <= DRAINED * self.limit:
                await self._next()
        except TimeoutError:
            pass
        self.whole = True

    async def _next(self) -> Message:
        """The next part, counted.

        Raises:
            TimeoutError: It does not come in time.
        """
        left = self.end - asyncio.get_running_loop().time()
        message = await asyncio.wait_for(self._receive(), min(self.seconds, left))
        self.size += len(message.get("body", b""))
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class _Answer:
    """An answer on its way, counted until its client has taken all but a rest of it.

    Args:
        send: As of ASGI; what comes behind a part of a body waits there until the part is taken.
        room: Where the answer counts.
        large: An answer of more bytes than this is refused where there is no room left.
    """

    def __init__(self, send: Send, room: _Room, large: int) -> None:
        self._send = send
        self._room = room
        self._large = large
        self._instead: bytes | None = None

    async def send(self, message: Message) -> None:
        """The next part of the answer."""
        if message["type"] == "http.response.start":
            length = int(MutableHeaders(scope=message).get("content-length", 0))
            if length > self._large and not self._room.has(0):
                error = _no_room()
                refusal = problem(error.status_code, error.detail, error.headers)
                message = {**message, "status": 503, "headers": refusal.raw_headers}
                self._instead = bytes(refusal.body)
            MutableHeaders(scope=message).update(HEADERS)
            await self._send(message)
            return
        if self._instead is not None:
            message = {**message, "body": self._instead}
            self._instead = b""
        size = len(message.get("body", b""))
        self._room.held += size
        try:
            await self._send({**message, "more_body": True})
            await self._send({**message, "body": b""})
        finally:
            self._room.held -= size


def _late(body: _Body) -> HTTPException:
    over = asyncio.get_running_loop().time() >= body.end
    found = (
        f"{body.size:,} bytes of it after {body.arrival:g} s"
        if over
        else f"nothing more for {body.seconds:g} s"
    )
    return HTTPException(408, f"The request should come whole. Found {found}.", LAST)


def _no_room() -> HTTPException:
    return HTTPException(
        503,
        f"The requests that wait, and the answers that nobody has read yet, are as large as they "
        f"may be. Ask again in {AGAIN} seconds.",
        {"Retry-After": str(AGAIN)},
    )


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        413, f"The request should have at most {limit:,} bytes. Found more. Send it in parts."
    )


def _name(host: str) -> str:
    """The name in `NAME:PORT`, in small letters; empty where this is none.

    Example:
        >>> _name("LocalHost:8000"), _name("[::1]:8000"), _name("someone@localhost")
        ('localhost', '::1', '')
    """
    found = AUTHORITY.fullmatch(host)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""
