"""Several columns that cannot be tasks, refused at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from dao.errors import UserError

__all__ = ["each"]

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(given: Mapping[str, Given], of: Callable[[str, Given], Found]) -> dict[str, Found]:
    """What `of` makes of every task, by name.

    Raises:
        UserError: as `of` says it, where one task is refused; of several, all that was said.

    Example:
        >>> each({"a": 1, "b": 2}, lambda name, value: f"{name}{value}")
        {'a': 'a1', 'b': 'b2'}
    """
    found: dict[str, Found] = {}
    errors: list[UserError] = []
    for name, value in given.items():
        try:
            found[name] = of(name, value)
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        said = " ".join(f"({i}) {error}" for i, error in enumerate(errors, 1))
        raise UserError(f"{len(errors)} tasks cannot be learned as they are. {said}")
    return found
