"""`dao export`: the model of a finished run as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dao.learner.commands import options as o
from dao.learner.commands.finished import ENCODER, finished, sort_out

if TYPE_CHECKING:
    from dao.learner.inference.elsewhere import RunElsewhere

__all__ = ["export", "write_model"]


def export(
    run: o.Run,
    output: Annotated[Path, typer.Option(help="The .onnx file; .onnx.json describes it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[encoder.name=FOLDER]", help="Where the run's encoder is now."),
    ] = None,
    device: o.RunDevice = None,
) -> None:
    """Write the model to an ONNX file, with LoRA merged, and check what it gives."""
    columns, encoder = sort_out(overrides or [], run)
    if columns:
        raise typer.BadParameter(f"only {ENCODER}FOLDER can be set: {columns[0]}")
    from dao.learner.console.errors import user_errors

    with user_errors():
        write_model(finished(run, encoder), output, device)


def write_model(folder: RunElsewhere, output: Path, device: str | None) -> None:
    """Write the ONNX file and say what is in it.

    Raises:
        UserError: as `export_run` and `opened`.
    """
    from dao.learner.inference.exporting import export_run
    from dao.learner.inference.load import opened

    model = opened(folder, device)
    for line in export_run(folder, model.predictor, model.tasks, output):
        print(line)
