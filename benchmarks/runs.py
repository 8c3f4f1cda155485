"""Runs of a benchmark: made by the runner of `--factorial`, each once, its output in a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from dao.learner.experiment.arms import PLACES
from dao.learner.experiment.findings.runs import flat
from dao.learner.experiment.grid.factorial import Cell, check_not_other
from dao.learner.experiment.grid.runner import Options, outcomes, tidy
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder

__all__ = ["ended", "failure", "made", "train_all"]

TRAIN = Path(__file__).parents[1] / "train.py"


def failure(cfg: Config) -> Path:
    """Where the reason is for which a run stopped by itself."""
    return Path(cfg.output).with_suffix(".failed")


def ended(cell: Cell) -> bool:
    """Whether the run was made, or stopped by itself while it trained with these settings.

    Raises:
        UserError: the folder holds a run of other settings, finished or to be continued.
    """
    check_not_other(cell)
    if made(cell.cfg):
        return True
    # One that failed before its first step costs nothing to try again.
    began = (cell.cfg.folder / "history.jsonl").is_file()
    return failure(cell.cfg).exists() and began and _same_settings(cell.cfg)


def _same_settings(cfg: Config) -> bool:
    found, asked = (flat(c.model_dump(mode="json")) for c in (RunFolder(cfg.folder).config(), cfg))
    return all(found.get(key) == asked.get(key) for key in {*found, *asked} - {*PLACES})


def train_all(todo: Sequence[Cell], folder: Path, jobs: int, console: Console) -> None:
    """Make the runs, `jobs` at a time, and tell of each one's end.

    Args:
        todo: the runs.
        folder: of all runs of the benchmark.
        jobs: runs at a time.
        console: takes a line per run.
    """
    by_name = {cell.name: cell.cfg for cell in todo}
    command = (sys.executable, str(TRAIN))
    with closing(outcomes(todo, folder, Options(jobs=jobs), command)) as ending:
        for done, outcome in enumerate(ending, 1):
            cfg = by_name[outcome.name]
            failure(cfg).unlink(missing_ok=True)
            if not outcome.finished:
                failure(cfg).write_text(f"{outcome.reason}\n", encoding="utf-8")
            line = f"{done}/{len(todo)} {cfg.output} {outcome.reason}"
            console.print(line, highlight=False)
    tidy(todo, folder)


def made(cfg: Config) -> bool:
    """Whether a run came to its end."""
    return RunFolder(cfg.folder).finished
