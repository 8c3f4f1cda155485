"""Data that a project registers, to be read where a person names no file.

The laboratory of this repository registers the headlines that it generates. Without any, `load`
asks for a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dao.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DefaultData", "default_data", "register"]


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


_registered: list[DefaultData] = []


def register(data: DefaultData) -> None:
    """Let `data` stand in from now on where no source is given."""
    _registered[:] = [data]


def default_data() -> DefaultData:
    """The data that stand in where no source is given.

    Raises:
        UserError: nothing is registered.
    """
    if not _registered:
        raise UserError(
            "Training should know its data. Found no file and no data set. Name one, such as "
            "--data my.csv."
        )
    return _registered[0]
