"""The pages of settings and of the command line, made from the code when the site is built.

`settings.md` and `command-line.md` hold an introduction and a marker, `<!-- generated -->`, in
whose place comes what the settings' docstrings and the commands' help say.
"""

import re
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from dao.learner.commands.app import app as command
from dao.learner.kinds import KINDS, TaskSettings
from dao.learner.settings.config import Config

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["MARKER", "commands", "sections", "settings", "setup"]

MARKER = "<!-- generated -->"
PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
EVERY_KIND = "Every task"
COMMANDS = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")

Field = tuple[str, FieldInfo]


def sections() -> Iterator[tuple[str, str, str, list[Field]]]:
    """The settings of a run, then those of its tasks.

    Yields:
        Heading, what stands before each key, the docstring of the section, and its fields.
    """
    yield from _walk("", Config)
    every = TaskSettings.model_fields
    yield EVERY_KIND, "TASK.", _first_lines(TaskSettings), list(every.items())
    for kind, task in KINDS.items():
        own = [(key, found) for key, found in task.options.model_fields.items() if key not in every]
        yield f"Tasks of the kind {kind}", "TASK.", _first_lines(task.options), own


def _walk(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str, list[Field]]]:
    below = {key: _model(found) for key, found in model.model_fields.items()}
    own = [(key, found) for key, found in model.model_fields.items() if below[key] is None]
    yield prefix.rstrip(".") or "The run", prefix, _first_lines(model), own
    for key, section in below.items():
        if section is not None:
            yield from _walk(f"{prefix}{key}.", section)


def _model(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _first_lines(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n\n")[0]


def settings() -> str:
    """All settings as Markdown: key, default, what it takes, what it does."""
    lines: list[str] = []
    for heading, prefix, told, fields in sections():
        lines += ["", f"## {f'`{heading}`' if prefix and prefix != 'TASK.' else heading}", "", told]
        for key, found in fields:
            takes = f"{_kind(found.annotation)}{_bounds(found.metadata)}"
            lines += ["", f"`{prefix}{key}`", f": {takes}; default {_default(found)}", ""]
            lines += [f"  {line}" for line in (found.description or "").splitlines()]
    return "\n".join(lines)


def _kind(kind: object) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if kind is NoneType:
        return "null"
    if hasattr(kind, "__metadata__"):
        return f"{_kind(kind.__origin__)}{_bounds(kind.__metadata__)}"
    if origin is Literal:
        return _either([f"`{value}`" for value in parts])
    if origin in (Union, UnionType):
        return _either([_kind(part) for part in parts])
    if origin is tuple:
        number = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        word, *bounds = _kind(parts[0]).split(", ", 1)
        return ", ".join([f"a list of {number}{word.removeprefix('a ')}s", *bounds])
    if origin is dict:
        return f"names, each with {_kind(parts[1])}"
    return "the settings of a task"


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _bounds(metadata: Iterable[object]) -> str:
    given = [part for bound in metadata for part in getattr(bound, "metadata", [bound])]
    said = [
        f"{words} {_number(getattr(bound, sign))}"
        for bound in given
        for sign, words in BOUNDS.items()
        if hasattr(bound, sign)
    ]
    return f", {' and '.join(said)}" if said else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "null"
    if isinstance(value, dict) and value:
        return f"`{','.join(value)}`"
    if isinstance(value, tuple | dict) or value == "":
        return f"`[{','.join(map(str, value))}]`" if value else "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def commands() -> str:
    """The command `dao`, and the two of the repository, as Markdown."""
    import evaluate
    import train

    programs = {"dao": command, "python train.py": train.app, "python evaluate.py": evaluate.app}
    return "\n".join(_help(name, program) for name, program in programs.items())


def _help(name: str, program: typer.Typer) -> str:
    found = typer.main.get_command(program)
    told: str = get_docs_for_click(obj=found, ctx=typer.Context(found), name=name)
    told = COMMANDS.sub("", told)  # their help is cut off there, and whole further below
    # A heading deeper, below that of the page.
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in told.splitlines())


PAGES = {"settings": settings, "command-line": commands}


def _fill(_app: "Sphinx", page: str, source: list[str]) -> None:
    if page in PAGES:
        if MARKER not in source[0]:
            raise ValueError(f"docs/{page}.md should have a line {MARKER}. Found none.")
        source[0] = source[0].replace(MARKER, PAGES[page]())


def setup(app: "Sphinx") -> dict[str, bool]:
    """Fill the pages as Sphinx reads them."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
