"""What the commands on finished runs share: the run, its model, the columns of new data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dao.command import spare

if TYPE_CHECKING:
    from dao.learner.data.reading.table import Columns
    from dao.learner.inference.elsewhere import RunElsewhere
    from dao.learner.settings.config import Config

__all__ = ["columns_of", "finished", "sort_out", "spare_for"]

ENCODER = "encoder.name="
TABLE = ("split", "domain", "id", "encoding", "missing")


def finished(run: Path, encoder: str = "") -> RunElsewhere:
    """The folder of a run, which should be finished.

    Args:
        run: its path.
        encoder: where the encoder of the run is now; empty where it has not moved.

    Raises:
        UserError: it is not.
    """
    from dao.learner.inference.elsewhere import RunElsewhere

    folder = RunElsewhere(run, encoder)
    folder.check_finished()
    spare_for(folder.config())
    return folder


def spare_for(cfg: Config) -> None:
    """Spare the packages that a run with these settings does without."""
    if cfg.encoder.quantize == "none":
        spare("bitsandbytes")


def sort_out(overrides: Sequence[str], run: Path) -> tuple[list[str], str]:
    """The columns of new data, and where the encoder is.

    Raises:
        typer.BadParameter: something else is set.
    """
    columns = [o for o in overrides if not o.startswith(ENCODER)]
    if columns:
        from dao.learner.kinds.declared import BUILT_IN

        tasks = _tasks(run)
        names = dict.fromkeys(("text", *tasks, *BUILT_IN, *TABLE))
        known = [f"data.{name}=" for name in names] + [f"{task}.column=" for task in tasks]
        if refused := [o for o in columns if not o.startswith(tuple(known))]:
            raise typer.BadParameter(
                f"only what new data are like (data.NAME=VALUE, of "
                f"{', '.join(('text', *tasks, *TABLE))}) and {ENCODER}FOLDER can be set: "
                f"{refused[0]}"
            )
    places = [o.removeprefix(ENCODER) for o in overrides if o.startswith(ENCODER)]
    return columns, next(reversed(places), "")


def _tasks(run: Path) -> list[str]:
    from dao.learner.console.errors import user_errors
    from dao.learner.storage.record import RunFolder

    with user_errors():
        return list(RunFolder(run).config().tasks)


def columns_of(folder: RunElsewhere, overrides: Sequence[str]) -> Columns:
    """The columns of new data: those of the run, where nothing else is said.

    Raises:
        UserError: one text where the run learnt from two, or the reverse.
    """
    from dao.learner.basics.pairs import check_number
    from dao.learner.data.reading.table import Columns

    # New data may have another encoding than the run's. A run with rules=1 knows no missing words,
    # so naming some asks for rules=2.
    own = ["data.encoding=utf-8", *overrides]
    if any(o.startswith("data.missing=") for o in own):
        own.append("data.rules=2")
    cfg = folder.config(own)
    check_number(cfg.data.text, folder.config().data.text)
    return Columns.named(cfg.data, cfg.columns, cfg.words_column)
