"""`dao explain`: which tokens of a text an answer rests on."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dao.learner.commands import options as o
from dao.learner.commands.finished import ENCODER, columns_of, finished, sort_out
from dao.learner.commands.predict import check_texts

__all__ = ["explain"]


def explain(
    run: o.Run,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[encoder.name=FOLDER]", help="Where the run's encoder is now."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Explain the answers to this; repeat for more.")
    ] = None,
    text_pair: o.TextPair = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Of this task; repeat for more. Default: all tasks.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON line per text and task, in place of tables.")
    ] = False,
    device: o.RunDevice = None,
) -> None:
    """Show how much each token of a text adds to an answer (extra `explain`).

    The numbers are integrated gradients, by captum. They sum to the difference between the text
    and padding in its place: of the log-probability of the answer, or of the predicted number.
    """
    if not text:
        raise typer.BadParameter("give a text with --text.")
    check_texts(text, text_pair)
    columns, encoder = sort_out(overrides or [], run)
    if columns:
        raise typer.BadParameter(f"only {ENCODER}FOLDER can be set: {columns[0]}")
    from dao.learner.console.errors import user_errors

    with user_errors():
        folder = finished(run, encoder)
        names = list(folder.config().tasks)
        if unknown := [name for name in task or [] if name not in names]:
            raise typer.BadParameter(
                f"--task should be one of {', '.join(names)}. Found {unknown[0]}."
            )
        columns_of(folder, [])
        from dao.learner.basics.pairs import typed
        from dao.learner.explaining.attribution import check_captum, explained
        from dao.learner.explaining.shown import print_explanation
        from dao.learner.inference.load import opened

        check_captum()
        texts = typed(text, text_pair, folder.config().data.text)
        for found in explained(opened(folder, device), texts, task or names):
            if as_json:
                print(json.dumps(found.to_dict(), ensure_ascii=False))
            else:
                print_explanation(found)
