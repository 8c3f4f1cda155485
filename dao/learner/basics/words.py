"""Settings as they were typed: YAML in which text stays text.

YAML 1.1 reads NO as false, 010 as 8, 12:30 as 750 and 1_000 as 1000. A name or a cell of the user's
data has to keep its letters, so each such word is kept beside its value, and the setting that takes
it decides which of the two is meant.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

__all__ = ["Typed", "Word", "as_text", "read_value", "read_yaml", "settled", "settled_fields"]

LIST = re.compile(r"\[.*\]", re.DOTALL)
QUOTED = r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(?=\s*(?:,|$))"""
ITEM = re.compile(rf"\s*(?:{QUOTED}|([^,]*?))\s*(?:,|$)", re.DOTALL)
"""A word of a list, in quotes or up to the next comma."""


@dataclass(frozen=True)
class Word:
    """A plain word that YAML reads as something else than text.

    Args:
        text: The word as it was typed.
        value: What YAML makes of the word: a number, a truth value, a date or None.
    """

    text: str
    value: Any


@dataclass(frozen=True)
class Typed:
    """The value of one `KEY=VALUE`.

    Args:
        text: Everything behind the equals sign.
        value: The same as YAML, with `Word`s.
    """

    text: str
    value: Any


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        try:
            value = super().construct_object(node, deep)
        except ValueError:  # 2001-99-99 has the form of a date, 0x that of a number
            if not plain:
                raise
            return node.value
        return Word(node.value, value) if plain and not isinstance(value, str) else value


def read_yaml(text: str) -> Any:  # noqa: ANN401
    """A YAML document whose words that are no text to YAML are `Word`s.

    Raises:
        yaml.YAMLError: The text is no YAML.
        RecursionError: It is nested too deeply.

    Example:
        >>> read_yaml("{country: NO, town: Oslo}")
        {'country': Word(text='NO', value=False), 'town': 'Oslo'}
    """
    return yaml.load(text, _Loader)  # derived from the safe one


def read_value(text: str) -> Typed:
    """The value of a `KEY=VALUE`; what is no YAML counts as text.

    Example:
        >>> read_value("010"), read_value("[a")
        (Typed(text='010', value=Word(text='010', value=8)), Typed(text='[a', value='[a'))
    """
    try:
        return Typed(text, read_yaml(text))
    except (yaml.YAMLError, RecursionError):
        return Typed(text, text)


def as_text(value: Any) -> Any:  # noqa: ANN401
    """A word as it was typed; what is no word as it is.

    Example:
        >>> as_text(read_value("NO")), as_text(["a"])
        ('NO', ['a'])
    """
    return _one(str, value, keeps_null=True)


def settled(model: type[Any], tree: Mapping[Any, Any]) -> dict[Any, Any]:
    """The settings of `tree` without `Word` and `Typed`: text where `model` takes text.

    Args:
        model: The section of settings that `tree` is for, with `model_fields` and `null_words`.
        tree: Keys to values, as they were read.

    Raises:
        RecursionError: A value contains itself.
    """
    return settled_fields(model.model_fields, model.null_words, tree)


def settled_fields(
    fields: Mapping[str, FieldInfo], null_words: Collection[str], tree: Mapping[Any, Any]
) -> dict[Any, Any]:
    """As `settled`, for these fields, of which some keep a null as the word that was typed."""
    found = {}
    for key, value in tree.items():
        field = fields.get(key) if isinstance(key, str) else None
        if field is None:
            found[_plain(key)] = _plain(value)
        else:
            found[key] = _one(field.annotation, value, keeps_null=key in null_words)
    return found


def _one(kind: Any, value: Any, *, keeps_null: bool) -> Any:  # noqa: ANN401
    """A value for a setting of this annotation."""
    content = value.value if isinstance(value, Typed) else value
    if isinstance(content, dict) and hasattr(kind, "null_words"):
        return settled(kind, content)
    if isinstance(content, dict) and get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return {_text(k): _one(inner, v, keeps_null=keeps_null) for k, v in content.items()}
    kinds = _alternatives(kind)
    lists = [k for k in kinds if get_origin(k) is tuple and _is_text(get_args(k)[0])]
    typed = value.text.strip() if isinstance(value, Typed) else None
    if lists and typed is not None and LIST.fullmatch(typed):
        return _items(typed)
    if lists and typed is None and isinstance(content, list):
        return [_text(part) for part in content]
    if not lists and not any(map(_is_text, kinds)):
        return _plain(value)
    if isinstance(content, Word) and content.value is None:
        as_text = keeps_null and type(None) not in kinds
        null = content.text if typed is None else typed
        return null if as_text else None
    if typed is not None:
        quoted = typed.startswith(("'", '"')) and isinstance(content, str)
        return content if quoted else typed
    return _text(value)


def _items(text: str) -> list[str]:
    """The words of a list as it was typed, such as [NO,?,"a,b"]; YAML would read `?` and `#`."""
    found = ITEM.findall(text[1:-1].strip())[:-1]  # the last is the nothing at the end
    return [_text(read_value(quoted).value) if quoted else plain for quoted, plain in found]


def _alternatives(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_text(kind: Any) -> bool:  # noqa: ANN401
    words = get_origin(kind) is Literal and isinstance(get_args(kind)[0], str)
    return kind is str or words


def _text(value: Any) -> Any:  # noqa: ANN401
    """A word as it was typed; what is no word as it is, to be refused by the setting."""
    return value.text if isinstance(value, Word) else _plain(value)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """A value as YAML has it."""
    if isinstance(value, Word | Typed):
        return _plain(value.value)
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
