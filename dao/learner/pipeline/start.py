"""Where a run starts: its settings to data and tasks, to a run folder, to the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.console.report import RichProgress
from dao.learner.data.load import Columns, Table, ceilings, fit, load, notes
from dao.learner.kinds import Task
from dao.learner.kinds.told import notes_of_tasks
from dao.learner.pipeline.preflight import check
from dao.learner.pipeline.prepare import Inputs
from dao.learner.pipeline.run import run
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.tracking.tracked import tracked
from dao.learner.tracking.trackers import check_installed

__all__ = ["Loaded", "checked_data", "load_data", "load_table", "train"]

Loaded = tuple[Config, Table, dict[str, Task]]
"""The settings with every task's kind, the table, and the tasks fitted to its training rows."""


def load_table(cfg: Config) -> Table:
    """Read the data that the settings name.

    Raises:
        UserError: they name none and none are registered, or the data cannot be used.
    """
    return load(
        cfg.data.sources,
        Columns.named(cfg.data, cfg.columns, cfg.words_column),
        tasks=cfg.tasks,
        split_tasks=cfg.split_tasks,
        split_seed=cfg.data.split_seed,
        fractions=cfg.data.fractions,
        where=cfg.data.where,
        synthetic=cfg.data.synthetic.model_dump(),
    )


def load_data(cfg: Config) -> Loaded:
    """Read the data, settle the kind of every task, and fit the tasks to the training rows."""
    table = load_table(cfg)
    return cfg.with_tasks(table.tasks), table, fit(table)


def checked_data(*, ask_hub: bool = True) -> Callable[[Config], Loaded]:
    """What `load_data` gives, or the error for which a run of these settings would be refused.

    Runs that read the same data share them.
    """
    known: dict[str, Loaded] = {}

    def read(cfg: Config) -> Loaded:
        key = cfg.model_dump_json(include={"tasks", "split_tasks", "data"})
        if key not in known:
            _check_no_text(cfg)
            known[key] = load_data(cfg)
        decided, table, tasks = known[key]
        cfg = cfg.with_tasks(decided.tasks)
        check(cfg, table, tasks, ask_hub=ask_hub)
        return cfg, table, tasks

    return read


def _check_no_text(cfg: Config) -> None:
    """Refuse a task that would learn a text from itself.

    Raises:
        UserError: naming the task and the column.
    """
    for task, settings in cfg.tasks.items():
        if settings.column in cfg.data.text:
            raise UserError(
                f"`{task}.column` should not be a column of the text. Found {settings.column!r}, "
                f"which the model reads. Leave {task} out of `tasks`, or name another column of "
                f"the text with data.text=COLUMN."
            )


def train(cfg: Config, *, resume: Path | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Train one model in a new run folder, or continue in an interrupted one; its metrics."""
    cfg, table, tasks = load_data(cfg) if resume else checked_data()(cfg)
    best = {split: ceilings(table, tasks, split) for split in ("validation", "test")}
    folder = ranks.run_folder(resume or cfg.folder)
    lines = notes(table.report) + notes_of_tasks(tasks)
    shown = RichProgress(lines) if ranks.is_first() else ranks.Silence()
    check_installed(cfg.train.track)
    with folder.locked(), shown as terminal:
        if resume:
            folder.check_resumable()
        else:
            folder.create(cfg, overwrite=overwrite)
        ranks.barrier()
        try:
            with tracked(cfg, folder, terminal) as progress:
                inputs = Inputs(cfg, table, tasks, best, folder, progress, resume is not None)
                metrics = run(inputs)
                progress.finished(metrics)
            return metrics
        except KeyboardInterrupt:
            raise KeyboardInterrupt(folder.how_to_continue()) from None
