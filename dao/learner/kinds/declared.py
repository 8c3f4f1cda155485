"""Tasks as a person declares them, in any spelling, to settings of their kinds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from torch import nn

from dao.learner.basics.frozen import refused
from dao.learner.basics.wording import listed, shown
from dao.learner.basics.words import Typed, Word, as_text, settled, settled_fields
from dao.learner.kinds import KINDS
from dao.learner.kinds.base import TaskSettings

__all__ = [
    "BUILT_IN",
    "Undecided",
    "check_names",
    "declarations",
    "settled_task",
    "task_settings",
    "with_columns",
]

BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "cls": {"kind": "classification", "column": "label"},
    "reg": {"kind": "regression", "column": "score"},
}
"""Tasks that need no declaration."""

NAME = re.compile(r"[^\W\d_][\w-]*")
LONGEST = 60  # characters; it becomes part of folder names
TABLE = ("id", "text", "split")
ARMS = (
    "base", "dao", "dao-paper", "dendrites", "sham", "capacity", "restart", "restart-lr", "experts",
    "single",
    "selection",
)  # fmt: skip
PREDICTED = ("text_pair",)  # further columns of predictions.csv
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "prefix")
SUFFIXES = ("_target", "_row_score")
"""Ends of columns in tables of predictions."""


class Undecided(TaskSettings):
    """A task whose kind is to be proposed from the data; its options are checked then."""

    model_config = ConfigDict(extra="allow")


def declarations(given: object) -> dict[str, dict[str, Any]]:
    """Tasks by name, each with what was said of it.

    Args:
        given: Text such as "topic,stars:ordinal", names in a list, or a mapping from names to
            settings.

    Raises:
        ValueError: It is none of these, or names a task twice.

    Example:
        >>> declarations("cls,stars:ordinal")
        {'cls': {}, 'stars': {'kind': 'ordinal'}}
    """
    given = _unwrapped(given)
    if isinstance(given, Mapping):
        entries = [(str(as_text(name)), _unwrapped(own)) for name, own in given.items()]
    else:
        parts = given.split(",") if isinstance(given, str) else given
        parts = [as_text(part) for part in parts] if isinstance(parts, list | tuple) else parts
        if not isinstance(parts, Sequence) or not all(isinstance(p, str) for p in parts):
            raise ValueError(
                "`tasks` should be names such as topic,stars:ordinal, or a mapping of names to "
                f"settings. Found {given!r}"
            )
        pairs = [part.strip().partition(":") for part in parts]
        entries = [(n.strip(), {"kind": k.strip()} if k else {}) for n, _, k in pairs]
    names = [name for name, _ in entries]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`tasks` should name each task once, for example cls,reg. Found {names}")
    for name, settings in entries:
        if not isinstance(settings, Mapping | TaskSettings | None):
            raise ValueError(f"`tasks.{name}` should have settings. Found {settings!r}")
    return {name: _plain(settings) for name, settings in entries}  # type: ignore[arg-type]


def _unwrapped(given: object) -> object:
    """What was typed: a list or mapping if it is one, else the text."""
    if not isinstance(given, Typed):
        return as_text(given) if isinstance(given, Word) else given
    return given.value if isinstance(given.value, list | dict) else given.text.strip()


def _plain(settings: Mapping[str, Any] | TaskSettings | None) -> dict[str, Any]:
    return settings.model_dump() if isinstance(settings, TaskSettings) else dict(settings or {})


ALL_FIELDS: Mapping[str, FieldInfo] = {
    name: field
    for kind in KINDS.values()
    for name, field in reversed(kind.options.model_fields.items())
}
"""The options of all kinds, for words of a task whose kind is not known yet."""
ALL_NULL_WORDS = frozenset().union(*(kind.options.null_words for kind in KINDS.values()))


def settled_task(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task with words as they were typed where its kind takes text."""
    kind = as_text(given.get("kind")) or BUILT_IN.get(name, {}).get("kind")
    known = KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        return settled_fields(ALL_FIELDS, ALL_NULL_WORDS, given)
    return settled(known.options, given)


def with_columns(
    tasks: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The tasks with the columns that are named apart from them.

    Classes that the built-in classification cuts from a score come from the column of the built-in
    regression, unless the task itself names one.

    Example:
        >>> with_columns({"cls": {"cut": 3}}, {"reg": "price"})["cls"]["column"]
        'price'
    """
    found = {
        name: {**settings, **({"column": columns[name]} if name in columns else {})}
        for name, settings in tasks.items()
    }
    classes, score = BUILT_IN
    asked, other = (settled_task(name, tasks.get(name, {})) for name in (classes, score))
    if asked.get("cut") is not None:
        label = columns.get(classes) or asked.get("label_column")
        read = columns.get(score) or asked.get("column") or other.get("column")
        read = read or BUILT_IN[score]["column"]
        names = {"column": read, "label_column": label or BUILT_IN[classes]["column"]}
        found[classes] = {**tasks[classes], **names}
    return found


def task_settings(name: str, given: Mapping[str, Any]) -> TaskSettings:
    """The settings of a task, of its kind; the column is the task's name unless one is given.

    Raises:
        ValueError: There is no such kind, or an option is not one of the kind's.
    """
    known = {"column": name, **BUILT_IN.get(name, {})}
    said = {key: value for key, value in given.items() if value not in ("", None)}
    asked = {
        **known,
        **given,
        **{key: said.get(key, known.get(key, "")) for key in ("kind", "column")},
    }
    kind = asked["kind"]
    if kind and not (isinstance(kind, str) and kind in KINDS):
        raise ValueError(f"`tasks.{name}.kind` should be one of {', '.join(KINDS)}. Found {kind!r}")
    model: type[TaskSettings] = KINDS[kind].options if kind else Undecided
    try:
        found = model.model_validate(asked)
    except ValidationError as error:
        raise ValueError("; ".join(_explained(name, kind, e) for e in error.errors())) from None
    if isinstance(found, Undecided):
        _check_plain(name, found.model_extra or {})
        return found
    return _checked(name, found)


def _check_plain(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a settings file cannot hold, whatever the kind will be."""
    for key, value in options.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            raise ValueError(
                f"`{name}.{key}` should be text, a finite number, or a list of these. "
                f"Found {shown(value)}"
            ) from None


def _checked(name: str, found: TaskSettings) -> TaskSettings:
    keys = [figure.key for figure in KINDS[found.kind].own_figures]
    if unknown := [key for key in found.show if key not in keys]:
        raise ValueError(
            f"`{name}.show` should name figures of the kind {found.kind}: {', '.join(keys)}. "
            f"Found {unknown[0]!r}"
        )
    return found


def _explained(name: str, kind: str, error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = [option for option in KINDS[kind].options.model_fields if option != "kind"]
        return f"`{name}.{key}` is no setting of the kind {kind}, which has {', '.join(known)}"
    return refused(f"{name}.{key}", error)


def check_names(names: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse names that something else has: a setting, a column, an arm, an input, an attribute.

    Args:
        names: Of the tasks.
        taken: Words that settings have.

    Raises:
        ValueError: Naming the task and what has the name.
    """
    for name in names:
        if not NAME.fullmatch(name) or len(name) > LONGEST:
            raise ValueError(
                f"`tasks` should have names of at most {LONGEST} letters, digits, _ and -, that "
                f"begin with a letter. Found {shown(name)}. Choose such a name and give its column "
                f"with NAME.column=COLUMN"
            )
        if name == "text":
            raise ValueError(
                "`tasks` should name what is learned from the text. Found 'text', the column of "
                "the text itself. Leave it out. Where the text is in another column, name that "
                "with data.text=COLUMN, and call this task otherwise"
            )
        owner = _owner(name, taken)
        if owner:
            raise ValueError(
                f"`tasks` should not take the name of {owner}. Found {name!r}. Choose another name "
                f"and give its column with NAME.column={name}"
            )
    for name in names:
        clashing = [
            other
            for other in names
            if f"{other}_".startswith(f"{name}_p_") or other in [name + end for end in SUFFIXES]
        ]
        if clashing:
            raise ValueError(
                f"`tasks` should have names whose columns of predictions differ. Found {name} and "
                f"{listed(clashing)}. Rename one of them"
            )


def _owner(name: str, taken: Sequence[str]) -> str | None:
    places = {
        "a setting": taken,
        "a column of the table": TABLE,
        "a column of predictions": PREDICTED,
        "an arm of the experiment": ARMS,
        "an input of the model": INPUTS,
    }
    for owner, words in places.items():
        if name in words:
            return owner
    if name.startswith("clean_"):
        return "a column with the truth behind another (clean_COLUMN)"
    # Heads are modules by the names of their tasks.
    return "a method that torch has" if hasattr(nn.ModuleDict(), name) else None
