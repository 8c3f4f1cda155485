"""The command `dao` with its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

import dao
from dao.learner.commands.compare import compare
from dao.learner.commands.evaluate import evaluate
from dao.learner.commands.experiment import experiment
from dao.learner.commands.explaining.explain import explain
from dao.learner.commands.export import export
from dao.learner.commands.predict import predict
from dao.learner.commands.search import search
from dao.learner.commands.serving.serve import serve
from dao.learner.commands.train import train

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
)
for command in (
    train, evaluate, predict, explain, serve, compare, export, experiment, search,
):  # fmt: skip
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dao {dao.__version__}")
        raise typer.Exit


@app.callback()
def _dao(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Learn any columns of a table of texts with one shared encoder, and put the model to use."""


def main() -> None:
    """Run the command line of this process."""
    app(prog_name="dao")
