"""A server at its port: told once it is ready, ended by Ctrl-C."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
import threading

import uvicorn
from starlette.types import ASGIApp

from dao.errors import UserError
from dao.learner.serving.connections import patient
from dao.learner.serving.limits import Limits

__all__ = ["bound", "configured", "run"]

PATIENCE = 10
"""Seconds that requests have to come to their end once the server is to stop."""


class _Told(uvicorn.Server):
    """A server that says where it is."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self.url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        print(f"ready at {self.url}; Ctrl-C ends it", flush=True)


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine.

    Raises:
        UserError: The port is taken, or the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = found[0]
        made = socket.socket(family, kind, number)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host should be an address of this machine. Found {host!r}: {error}. Correct it."
        ) from None
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"The port should be free. Found port {port} of {host} taken. Choose another "
                f"with --port, or 0 for any."
            ) from None
        raise UserError(
            f"--host and --port should be an address that this user may have. Found {host} and "
            f"{port}: {error.strerror}. Choose others."
        ) from None
    return made


def configured(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """How uvicorn serves an app, within limits of the connections."""
    # It warns of every form that it cannot parse; whoever sent the form is told.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=PATIENCE, ws="none",
        http=patient(limits.seconds, limits.connections),
    )  # fmt: skip


def run(app: ASGIApp, listener: socket.socket, host: str, limits: Limits) -> None:
    """Answer requests until Ctrl-C or a signal to terminate.

    Args:
        app: What answers.
        listener: As `bound` gives it.
        host: How the address is shown.
        limits: Of the connections.
    """
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    config = configured(app, limits)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _Told(config, f"http://{shown}:{port}").run([listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
    print("stopped", file=sys.stderr)
