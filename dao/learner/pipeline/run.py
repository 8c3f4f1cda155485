"""One run from a table to its record: prepare, fit, measure, record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.learner.kinds import Task
from dao.learner.pipeline.fit import fit
from dao.learner.pipeline.measure import measure
from dao.learner.pipeline.prepare import Inputs, prepare
from dao.learner.pipeline.recording import record, save_model
from dao.learner.processes import ranks
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config
from dao.learner.storage.writing import RunRecord
from dao.learner.training.loop import Progress

__all__ = ["run"]


def run(
    cfg: Config,
    table: TableLike,
    tasks: Mapping[str, Task],
    ceilings: Mapping[str, Mapping[str, dict[str, Any]]],
    folder: RunRecord,
    progress: Progress,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, select, test, and leave a finished run folder.

    Of several ranks, all train and the first alone goes on: it saves, tests and reports.

    Args:
        cfg: the settings; `folder` holds the same.
        table: the data.
        tasks: fitted to the training rows, by name, in the order of `cfg.tasks`.
        ceilings: per split, the best reachable figures per task, where they are known.
        folder: created, and locked by this process.
        progress: told of every step and validation.
        resume: continue from the latest checkpoint.

    Returns:
        The content of metrics.json; nothing on ranks other than the first.
    """
    prepared = prepare(Inputs(cfg, table, tasks, ceilings, folder, progress, resume))
    trained = fit(prepared)
    if not ranks.is_first():
        return {}
    save_model(prepared, trained)
    return record(prepared, trained, measure(prepared, trained))
