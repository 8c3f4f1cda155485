"""Clients that send much, slowly or not at all: what they hold is bounded, in bytes and in time."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.server import ServerState

from dao.learner.serving.guard import Guard
from dao.learner.serving.limits import Limits
from dao.learner.serving.running import configured
from dao.learner.serving.turns import Turns
from tests.cli.served import app_at_a_port

JSON = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LARGE = 30 << 20
"""Bytes of an answer that no socket takes at once."""


async def reads(scope: Any, receive: Any, send: Any) -> None:
    """An app that reads a body and answers with it; what is raised meanwhile is told."""
    from starlette.exceptions import HTTPException

    from dao.learner.serving.problems import problem

    body = b""
    try:
        while (message := await receive()).get("more_body"):
            body += message["body"]
    except HTTPException as error:
        await problem(error.status_code, error.detail, error.headers)(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body + message.get("body", b"")})


async def gives_much(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(LARGE)})


async def gives(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers with 90 bytes."""
    from starlette.responses import Response

    await Response(bytes(90))(scope, receive, send)


@contextmanager
def connected(app: Any, **limits: Any) -> Iterator[socket.socket]:
    """A connection to a real server with an app behind the guard."""
    given = Limits(**limits)
    with app_at_a_port(Guard(app, given), given) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as found:
            yield found


def drip(connection: socket.socket, seconds: float = 0.02) -> bytes:
    """Send a byte now and then until the server answers or ends the connection."""
    connection.settimeout(seconds)
    found = b""
    for _ in range(200):
        with suppress(TimeoutError):
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"x")
            part = connection.recv(1 << 16)
            if not part:
                return found
            found += part
    raise AssertionError("the server waits on")


def test_a_body_that_drips_is_ended_after_its_time():
    with connected(reads, seconds=0.2, arrival=0.3) as client:
        client.sendall(HEAD + b"Content-Length: 9999\r\n\r\n")
        answer = drip(client)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head.lower()
    line = json.loads(body)["error"]
    assert line.startswith("The request should come whole. Found ")
    assert line.endswith(" bytes of it after 0.3 s.")


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nX: "])
def test_a_head_that_drips_or_does_not_come_is_ended(head: bytes):
    with connected(reads, seconds=0.1) as client:
        client.sendall(head)
        if head:
            assert drip(client) == b""
        else:
            assert client.recv(1) == b""


def test_an_answer_that_is_not_read_is_dropped():
    size = LARGE
    for wait in (0.4, 2, 8):  # a busy machine is late
        with connected(gives_much, seconds=0.1) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            time.sleep(wait)
            size = 0
            with suppress(ConnectionResetError):
                while part := client.recv(1 << 20):
                    size += len(part)
        if size < LARGE:
            break
    assert 0 < size < LARGE


def test_a_slow_reader_that_goes_on_gets_its_answer():
    with connected(gives_much, seconds=1) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        size = 0
        while part := client.recv(1 << 20):
            size += len(part)
            if size < 20 << 20:
                time.sleep(0.03)
    assert size > LARGE


class Unread(asyncio.Transport):
    """What a connection writes to, with as many bytes that wait for its client as a test says."""

    waiting = 0
    ended = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.ended = True


@pytest.mark.parametrize("another", [True, False])
def test_two_answers_on_one_connection_are_not_taken_for_one(another: bool):
    loop, transport = asyncio.new_event_loop(), Unread()
    config = configured(reads, Limits())
    config.load()
    connection = config.http_protocol_class(config, ServerState(), {}, loop)
    connection.connection_made(transport)
    answers = [SimpleNamespace(response_complete=True) for _ in range(2)]
    for answer, transport.waiting in ((answers[0], 1 << 20), (answers[int(another)], 9 << 20)):
        connection.cycle = answer
        connection._look()
    loop.close()
    assert transport.ended != another


# -- all bodies together --------------------------------------------------------------------------


def ask(guard: Guard, *parts: bytes, length: int | None = None, then: Any = None) -> Any:
    """A request of a body in parts, with what is awaited before the last one; its answer."""
    left, sent = [*parts], []

    async def receive() -> dict[str, object]:
        if len(left) == 1 and then is not None:
            await then.wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> tuple[int, dict[str, str], bytes]:
        told = [] if length is None else [(b"content-length", str(length).encode())]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
                 "headers": [*JSON, *told], "scheme": "http"}  # fmt: skip
        await guard(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(part["body"] for part in sent[1:])

    return run()


@pytest.mark.parametrize("length", [None, 60])
def test_bodies_that_are_held_are_bounded_together(length: int | None):
    guard = Guard(reads, Limits(held=100))

    async def together() -> None:
        go = asyncio.Event()
        first = asyncio.create_task(ask(guard, b"a" * 50, b"a" * 10, then=go))
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        status, headers, body = await ask(guard, b"b" * 30, b"b" * 30, length=length)
        assert (status, headers["retry-after"]) == (503, "2")
        line = json.loads(body)["error"]
        assert line.startswith("The requests that wait, and the answers that nobody has read yet,")
        assert line.endswith("are as large as they may be. Ask again in 2 seconds.")
        assert (await ask(guard, b"c" * 20, b"c" * 20))[0] == 200
        go.set()
        assert await first == (200, (await first)[1], b"a" * 60)
        assert (await ask(guard, b"d" * 60, b"d" * 40))[0] == 200

    asyncio.run(together())
    assert guard.room.held == 0


def test_answers_that_are_not_read_count_until_they_are():
    guard = Guard(gives, Limits(held=100, body=50))
    read = asyncio.Event()

    async def unread() -> list[dict[str, Any]]:
        """As of a client that takes nothing before it is told to; the answer it got."""
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            if len(sent) > 1:  # as of uvicorn, which writes the first part of a body at once
                await read.wait()
            sent.append(message)

        await guard({"type": "http", "path": "/predict", "headers": JSON}, None, send)
        return sent

    async def together() -> None:
        first, second = (asyncio.create_task(unread()) for _ in range(2))
        await asyncio.sleep(0.01)
        assert guard.room.held == 180
        assert not guard.room.has(1)
        third = asyncio.create_task(unread())
        await asyncio.sleep(0.01)
        read.set()
        assert [(await one)[0]["status"] for one in (first, second, third)] == [200, 200, 503]
        assert b"".join(part["body"] for part in (await first)[1:]) == bytes(90)

    asyncio.run(together())
    assert guard.room.held == 0


def test_few_files_are_tables_at_one_time():
    turns, now, most = Turns(9, 2), 0, 0

    async def file() -> None:
        nonlocal now, most
        async with turns.tables:
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1

    async def together() -> None:
        await asyncio.gather(*(file() for _ in range(6)))

    asyncio.run(together())
    turns.close()
    assert most == 2


def test_more_connections_than_the_limit_are_closed_at_once():
    asked = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with connected(reads, connections=1) as client:
        place = client.getpeername()
        with socket.create_connection(place, timeout=9) as more, suppress(ConnectionResetError):
            assert more.recv(1) == b""
        client.sendall(asked)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
