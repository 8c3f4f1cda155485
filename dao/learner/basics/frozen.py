"""The base of all settings: frozen, and refusing keys that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["Settings"]


class Settings(BaseModel):
    """What all settings have in common: unknown keys are refused, nothing changes later."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )
    null_words: ClassVar[frozenset[str]] = frozenset()
    """Settings for which `null`, `~` and nothing at all are text as well."""

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[str(info.field_name)].annotation
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, str) and not _is_plain(part):
                raise ValueError("text should have no NUL and no half of a surrogate pair")
        if _has_truth_value(value) and not _takes(bool, kind) and _takes_numbers(kind):
            raise ValueError("should be a number, and not yes or no")
        kinds = (kind, *get_args(kind))
        takes_tuple = any(get_origin(k) is tuple for k in kinds) and int not in kinds
        return (value,) if takes_tuple and isinstance(value, str | int | float) else value

    def to_yaml(self) -> str:
        """The effective settings; reading them back gives equal ones."""
        content = self.model_dump(mode="json")
        text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        # This character reads back as a line feed unless it is written by its number.
        return yaml.safe_dump(content, sort_keys=False) if "\x85" in text else text


def _has_truth_value(value: object) -> bool:
    """Whether a value, or a part of it, is what YAML makes of yes, no, on, off, true or false."""
    if isinstance(value, Mapping):
        return any(map(_has_truth_value, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_truth_value, value))
    return isinstance(value, bool)


def _takes_numbers(kind: object) -> bool:
    return _takes(int, kind) or _takes(float, kind)


def _takes(wanted: type, kind: object) -> bool:
    """Whether an annotation has a type, alone or within."""
    return kind is wanted or any(_takes(wanted, part) for part in get_args(kind))


def _is_plain(text: str) -> bool:
    """Whether a text can be written as UTF-8 and be part of a path."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text
