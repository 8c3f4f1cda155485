"""The base of all settings: frozen, and refusing in one line what it cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from dao.learner.basics.wording import count, shown

__all__ = ["Settings", "refused", "should"]

SHOULD = {
    "missing": "be given",
    "finite_number": "be a finite number",
    "string_type": "be text",
    "invalid_key": "have names that are text",
    **dict.fromkeys(("bool_type", "bool_parsing"), "be true or false"),
    **dict.fromkeys(("float_type", "float_parsing"), "be a number"),
    **dict.fromkeys(("tuple_type", "list_type"), "be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "hold KEY: VALUE pairs"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "be a whole number"
    ),
}
"""Kinds of pydantic's errors, and what the value should."""
BOUNDS = {
    "greater_than": ("be above", "gt", ""),
    "greater_than_equal": ("be at least", "ge", ""),
    "less_than": ("be below", "lt", ""),
    "less_than_equal": ("be at most", "le", ""),
    "too_short": ("have at least", "min_length", "item"),
    "too_long": ("have at most", "max_length", "item"),
    "string_too_short": ("have at least", "min_length", "character"),
    "string_too_long": ("have at most", "max_length", "character"),
}


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


def should(error: Mapping[str, Any]) -> str:
    """What a value should be that pydantic refused; the words of a check of our own as they are.

    Args:
        error: As from `ValidationError.errors`.

    Example:
        >>> should({"type": "int_parsing", "msg": "Input should be a valid integer, unable ..."})
        'should be a whole number'
        >>> should({"type": "greater_than", "msg": "...", "ctx": {"gt": 0.0}})
        'should be above 0'
    """
    kind, about = str(error["type"]), error.get("ctx", {})
    if kind in SHOULD:
        return f"should {SHOULD[kind]}"
    if kind == "literal_error":
        return f"should be {about['expected'].replace(chr(39), '')}"
    if kind in BOUNDS:
        words, key, thing = BOUNDS[kind]
        bound = f"{about[key]:g}" if isinstance(about[key], float) else about[key]
        return f"should {words} {count(about[key], thing) if thing else bound}"
    return str(error["msg"]).removeprefix("Value error, ")


def refused(key: str, error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence, without its full stop.

    Example:
        >>> refused("train.epochs", {"type": "int_parsing", "msg": "", "input": "x"})
        "`train.epochs` should be a whole number. Found 'x'"
    """
    said = should(error)
    colon = "" if said.startswith("should ") else ":"
    return f"`{key}`{colon} {said}. Found {shown(error['input'])}"
