"""Data that a project registers, as they enter a table: rows, limits, and figures of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.data.reading.sources import Raw, read
from dao.learner.data.reading.table import Columns
from dao.learner.data.report import digest
from dao.learner.kinds import KINDS, TaskSettings
from dao.learner.settings.named import default_data, named_data

__all__ = ["about_named", "limits_of", "read_default", "read_source"]


def read_default(options: Mapping[str, Any]) -> Raw:
    """The data that stand in where no source is given, made with the settings `data.synthetic`.

    Raises:
        UserError: none are registered.
    """
    data = default_data()
    frame = data.read(options).astype(object)
    return Raw(data.title, frame, digest(frame))


def read_source(source: str, columns: Columns) -> Raw:
    """Registered data where the source names any, else a file or a hub data set.

    Raises:
        UserError: the source cannot be had or read.
    """
    data = named_data(source)
    if data is None:
        return read(source, columns)
    frame = data.read().astype(object)
    return Raw(source, frame, digest(frame))


def limits_of(
    options: Mapping[str, Any], tasks: Mapping[str, TaskSettings]
) -> dict[str, dict[str, float]]:
    """The best figures that any model can expect on the default data: task -> figure -> value."""
    by_column, found = default_data().limits(options), {}
    for name, settings in tasks.items():
        keys = [figure.key for figure in KINDS[settings.kind].own_figures]
        best = by_column.get(settings.column, {})
        if known := {key: value for key, value in best.items() if key in keys}:
            found[name] = known
    return found


def about_named(
    sources: Sequence[str], tasks: Mapping[str, TaskSettings], *, filtered: bool
) -> dict[str, Any]:
    """The report's entries on registered data: `terms` of each, and `references`.

    Figures of others are about all rows of the data. Where these are filtered, or come with rows of
    other sources, no figure is comparable, and there is no entry `references`.

    Args:
        sources: of the table.
        tasks: of the table, with their kinds.
        filtered: whether some rows were left out by the settings.

    Returns:
        No entries where no source is registered.
    """
    named = {source: data for source in sources if (data := named_data(source))}
    if not named:
        return {}
    terms = {source: data.terms for source, data in named.items()}
    if filtered or len(sources) > 1:
        return {"terms": terms}
    references = [
        {
            "name": known.name, "task": task, "figure": known.figure, "source": known.source,
            "whole": known.whole, "parts": {c: dict(of) for c, of in known.parts.items()},
        }
        for data in named.values()
        for known in data.references()
        for task, settings in tasks.items()
        if settings.column == known.column and known.figure in _figures(settings)
    ]  # fmt: skip
    return {"terms": terms, "references": references}


def _figures(settings: TaskSettings) -> list[str]:
    return [figure.key for figure in KINDS[settings.kind].own_figures]
