"""Servers of finished runs for tests: as an app in this process, or at a port of a thread."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from dao.learner.commands.finished import columns_of, finished
from dao.learner.inference.load import opened
from dao.learner.serving.app import Service, make_app
from dao.learner.serving.guard import HEADERS, Guard
from dao.learner.serving.limits import Limits
from dao.learner.serving.running import configured

HOST = "http://127.0.0.1"


def service_of(
    run: Path, engine: Any = "eager", coverage: float | None = None, **limits: Any
) -> Service:
    folder = finished(run)
    model = opened(folder, "cpu", engine)
    return Service(model, partial(columns_of, folder), engine, Limits(**limits), coverage)


def guarded(service: Service) -> Guard:
    return Guard(make_app(service), service.limits)


@contextmanager
def client_of(service: Service) -> Iterator[TestClient]:
    with TestClient(guarded(service), base_url=HOST) as client:
        yield client


@contextmanager
def app_at_a_port(app: Any, limits: Limits) -> Iterator[str]:
    """The address of a real server, in a thread."""
    config = configured(app, limits)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def at_a_port(service: Service) -> Iterator[str]:
    """The address of a real server of a run, in a thread."""
    with app_at_a_port(guarded(service), service.limits) as url:
        yield url


def refused(answer: Any, status: int | None = None) -> str:
    """The one line of an answer that is a refusal."""
    assert 400 <= answer.status_code < 500, answer.text
    assert status in (None, answer.status_code), answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert [*found] == ["error"]
    assert found["error"].strip()
    assert "\n" not in found["error"]
    assert "Traceback" not in found["error"]
    protected(answer.headers)
    return found["error"]


def protected(headers: Mapping[str, str]) -> None:
    assert all(headers[name] == value for name, value in HEADERS.items())
