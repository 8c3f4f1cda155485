"""`dao serve`: a finished run as a page and an API."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from dao.command import uncollected
from dao.errors import UserError
from dao.learner.commands import options as o
from dao.learner.commands.finished import columns_of, finished, sort_out
from dao.learner.commands.predict import check_share

if TYPE_CHECKING:
    from dao.learner.data.reading.table import Columns
    from dao.learner.inference.elsewhere import RunElsewhere
    from dao.learner.inference.engines import EngineName

__all__ = ["serve"]

PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def serve(
    run: o.Run,
    overrides: o.NewColumns = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for every network of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which browsers may call the server; repeat for more; * for any."
        ),
    ] = None,
    engine: o.EngineOption = None,
    device: o.RunDevice = None,
    coverage: o.Coverage = None,
) -> None:
    """Show a finished run as a page where one types texts or drops a file, and as a JSON API.

    Nobody has to log in: who reaches the port can ask the model. Without --host only this machine
    does.
    """
    check_share(coverage)
    columns, encoder = sort_out(overrides or [], run)
    with uncollected():
        from dao.learner.console.errors import user_errors
    with user_errors():
        _check_packages()
        try:
            _served(
                finished(run, encoder),
                columns,
                host,
                port,
                allow_host or [],
                engine or "eager",
                device,
                coverage,
            )
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def _check_packages() -> None:
    from dao.learner.basics.program import install

    for name in PACKAGES:
        if find_spec(name) is None:
            raise UserError(
                f"dao serve needs the packages of the extra serve. Found no `{name}`. Run: "
                f"{install('serve')}"
            )


def _served(
    folder: RunElsewhere,
    overrides: list[str],
    host: str,
    port: int,
    allowed: list[str],
    engine: EngineName,
    device: str | None,
    coverage: float | None,
) -> None:
    """Load the model, take the port, answer until the end."""
    with uncollected():
        from dao.learner.inference.load import opened
        from dao.learner.serving.app import Service, make_app
        from dao.learner.serving.guard import Guard, is_loopback, names_of
        from dao.learner.serving.running import bound, run

    columns_of(folder, overrides)  # which are wrong before anything is loaded, not at a request
    listener = bound(host, port)
    model = opened(folder, device, engine)
    for line in model.told:
        print(line, file=sys.stderr)

    def columns(more: Sequence[str]) -> Columns:
        return columns_of(folder, [*overrides, *more])

    others = not is_loopback(host)
    if others:
        print(_reached(host, allowed), file=sys.stderr)
    service = Service(model, columns, engine, coverage=coverage)
    names = names_of(host, allowed)
    app = Guard(make_app(service), service.limits, names, allowed, addresses=others)
    run(app, listener, host, service.limits)


def _reached(host: str, allowed: Sequence[str]) -> str:
    from dao.learner.serving.guard import ANY_NAME

    called = (
        "any name will do, so a page of another site can point one here (DNS rebinding)"
        if ANY_NAME in allowed
        else "it answers to its addresses and names; --allow-host adds a name"
    )
    return f"note: {host} is reached from other machines, and nobody has to log in; {called}"
