"""Data that a project registers: those that stand in where no source is given, and those by name.

The laboratory of this repository registers the headlines that it generates, and public data sets
that are read out of packages. Without any, `load` asks for a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dao.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DefaultData",
    "NamedData",
    "Reference",
    "default_data",
    "named_data",
    "register",
]


@dataclass(frozen=True)
class DefaultData:
    """Data that stand in where no source is given.

    Attributes:
        title: what messages call them.
        read: makes the table out of the settings `data.synthetic`.
        limits: the best figures that any model can expect, out of the same settings: column ->
            key of the figure -> value.
    """

    title: str
    read: Callable[[Mapping[str, Any]], pd.DataFrame]
    limits: Callable[[Mapping[str, Any]], Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Reference:
    """A figure that others reached on the same data, to be told beside the model's.

    Attributes:
        name: who or what reached it, such as "one human against the other raters".
        column: of the targets that it is about.
        figure: its key, such as `pearson`.
        source: where it comes from, in a few words.
        whole: over all rows of the data; None where it is not known.
        parts: on parts of the rows: column -> its value -> figure.
    """

    name: str
    column: str
    figure: str
    source: str
    whole: float | None = None
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedData:
    """Data that are read where their name is given as a source.

    Attributes:
        name: of the source; it goes before a hub data set of the same name.
        read: makes the table.
        terms: the licence, and what to cite.
        defaults: settings of a run on these data alone, by dotted keys, in place of the usual
            defaults; anything that a person sets goes before them.
        references: figures of others on all of these data.
    """

    name: str
    read: Callable[[], pd.DataFrame]
    terms: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    references: Callable[[], Sequence[Reference]] = tuple


_default: list[DefaultData] = []
_named: dict[str, NamedData] = {}


def register(default: DefaultData, *named: NamedData) -> None:
    """Let `default` stand in from now on where no source is given, and `named` be found by name."""
    _default[:] = [default]
    _named.clear()
    _named.update({data.name: data for data in named})


def default_data() -> DefaultData:
    """The data that stand in where no source is given.

    Raises:
        UserError: nothing is registered.
    """
    if not _default:
        raise UserError(
            "Training should know its data. Found no file and no data set. Name one, such as "
            "--data my.csv."
        )
    return _default[0]


def named_data(source: str) -> NamedData | None:
    """The data that are registered under this name; None where there are none."""
    return _named.get(source)
