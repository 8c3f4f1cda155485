"""One run from a table to its record: prepare, fit, measure, record."""

from __future__ import annotations

from typing import Any

from dao.learner.pipeline.fit import fit
from dao.learner.pipeline.measure import measure
from dao.learner.pipeline.prepare import Inputs, prepare
from dao.learner.pipeline.recording import record, save_model
from dao.learner.processes import ranks

__all__ = ["run"]


def run(inputs: Inputs) -> dict[str, Any]:
    """Train, select, test, and leave a finished run folder.

    Of several ranks, all train and the first alone goes on: it saves, tests and reports.

    Returns:
        The content of metrics.json; nothing on ranks other than the first.
    """
    prepared = prepare(inputs)
    trained = fit(prepared)
    if not ranks.is_first():
        return {}
    save_model(prepared, trained)
    return record(prepared, trained, measure(prepared, trained))
