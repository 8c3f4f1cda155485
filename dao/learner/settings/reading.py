"""A YAML file and `KEY=VALUE` into one tree of settings, and pydantic's errors into words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from dao.errors import UserError
from dao.learner.basics.frozen import refused, should
from dao.learner.basics.program import command
from dao.learner.basics.wording import one_line
from dao.learner.basics.words import Typed, as_text, read_value, read_yaml
from dao.learner.kinds.declared import declarations
from dao.learner.settings.named import named_data

__all__ = ["fill_named", "in_words", "parse_overrides", "read_yaml_file", "selected", "set_value"]

COLUMN = "data.where."


def parse_overrides(overrides: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Split `KEY=VALUE` strings; values are YAML (1e-3, true, [0.3, 0.6], null) or text.

    The setting decides which: names and cells of the user's data stay as they were typed.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"An override should look like KEY=VALUE. Found {text!r}.")
        yield key, read_value(value)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:  # noqa: ANN401
    """`read_yaml`, once per text: an experiment's report reads the settings of all runs often."""
    return read_yaml(text)


def read_yaml_file(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, nested as they stand there.

    Raises:
        UserError: the file is missing, cannot be read, is not YAML or holds something else.
    """
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"The config file should exist. Found nothing at {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The config file {path} cannot be read: {error}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        message = one_line(error)
        raise UserError(f"The config file {path} should be YAML. Found: {message}.") from None
    if not isinstance(content, dict | None):
        found = repr(getattr(content, "value", content))[:80]
        raise UserError(f"The config file {path} should hold KEY: VALUE pairs. Found {found}.")
    return content or {}


def selected(declared: object, named: object) -> object:
    """The tasks named on the command line, each with what the YAML file declared of it.

    Raises:
        UserError: the names cannot be read.
    """
    if not isinstance(declared, Mapping) or isinstance(named, Mapping):
        return named
    try:
        chosen = declarations(named)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    return {name: {**(declared.get(name) or {}), **said} for name, said in chosen.items()}


def set_value(tree: dict[str, Any], dotted: str, value: Any) -> None:  # noqa: ANN401
    """Set the value at a dotted key of nested settings, in place.

    Raises:
        UserError: a part of the key has a value that holds no settings.
    """
    # A column's name may have dots of its own.
    *parents, leaf = dotted.split(".", 2) if dotted.startswith(COLUMN) else dotted.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if isinstance(child, Typed):
            child = tree[parent] = child.value
        if not isinstance(child, dict):
            where = " ".join(dotted.split())
            raise UserError(f"`{where}` cannot be set: `{parent}` has no settings below it.")
        tree = child
    tree[leaf] = value


def in_words(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One of pydantic's errors in the words of the settings.

    Args:
        error: as from `ValidationError.errors`.
        model: of all the settings, whose names are proposed in place of an unknown one.
    """
    if error["type"] == "told":
        return str(error["msg"])
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, list(_keys(model)), n=1)
        all_of_them = f"`{command('train')} --dry-run` prints them all."
        if not near and isinstance(error["input"], Mapping):  # KEY.SOMETHING, as of a task
            return f"`{key}` is not a setting, nor a task here: --tasks names tasks. {all_of_them}"
        hint = f"Did you mean `{near[0]}`?" if near else all_of_them
        return f"`{key}` is not a setting. {hint}"
    return refused(key, error) if key else should(error)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings of a model."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = [kind, *get_args(kind)]
        yield prefix + name
        for part in nested:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, f"{prefix}{name}.")


def fill_named(settings: dict[str, Any]) -> None:
    """Set the defaults of registered data, where they are the only source and nothing else is set.

    Args:
        settings: nested, as they were merged of all that a person gave; changed in place.
    """
    section = settings.get("data")
    sources = _plain(section.get("sources")) if isinstance(section, Mapping) else None
    only = sources[0] if isinstance(sources, list | tuple) and len(sources) == 1 else sources
    data = named_data(str(as_text(only)))
    for key, value in data.defaults.items() if data else ():
        if not _holds(settings, key.split(".")):
            set_value(settings, key, value)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Typed) else value


def _holds(tree: Mapping[str, Any], path: Sequence[str]) -> bool:
    first, *rest = path
    if first not in tree:
        return False
    below = _plain(tree[first])
    return not rest or not isinstance(below, Mapping) or _holds(below, rest)
