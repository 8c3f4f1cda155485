"""A plan as YAML: read with one clear line for every mistake, and written so that it reads back."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dao.errors import UserError
from dao.learner.basics.frozen import should
from dao.learner.basics.wording import one_line
from dao.learner.basics.words import Typed, Word, as_text, read_yaml
from dao.learner.experiment.plans.plan import ExperimentPlan

__all__ = ["plan_yaml", "read_plan"]

OF_RUNS = ("settings", "arms")
"""Parts that hold settings of runs, whose words are read as the setting that takes them asks."""
NUMBERS = ("seeds", "began")


def read_plan(path: Path) -> ExperimentPlan:
    """The plan in a YAML file; settings of runs keep their words as they were typed.

    Raises:
        UserError: the file cannot be read, or is no plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree, twice = read_yaml(text), _twice(yaml.compose(text, yaml.SafeLoader))
    except FileNotFoundError:
        raise UserError(f"--plan should name a YAML file. Found nothing at {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The plan {path} cannot be read: {error}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"The plan {path} should be YAML. Found: {one_line(error)}.") from None
    if twice:
        raise UserError(f"The plan {path} should say each thing once. Found {twice!r} twice.")
    if not isinstance(tree, dict):
        raise UserError(
            f"The plan {path} should hold KEY: VALUE pairs: title, question, seeds, arms, ..."
        )
    try:
        return ExperimentPlan.model_validate(_parts(tree))
    except ValidationError as error:
        said = "; ".join(_in_words(one) for one in error.errors())
        raise UserError(f"The plan {path}: {one_line(said)}.") from None


def plan_yaml(plan: ExperimentPlan) -> str:
    """The plan as a file that `read_plan` reads back to an equal one."""
    defaults = {name: field.get_default() for name, field in ExperimentPlan.model_fields.items()}
    content = {n: v for n in defaults if (v := getattr(plan, n)) and v != defaults[n]}
    text: str = yaml.dump(
        _lists(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100,
        default_flow_style=None,
    )  # fmt: skip
    return text


class _Dumper(yaml.SafeDumper):
    """Writes a word as it was typed."""

    def ignore_aliases(self, data: object) -> bool:
        """Nothing refers to another place, for people read this."""
        return data is not None


def _plain_word(dumper: yaml.SafeDumper, word: Word) -> yaml.Node:
    tag = dumper.resolve(yaml.ScalarNode, word.text, (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, word.text)


_Dumper.add_representer(Word, _plain_word)


def _lists(value: Any) -> Any:  # noqa: ANN401
    """The same with lists in place of tuples, and mappings in place of models."""
    if isinstance(value, BaseModel):
        return _lists(value.model_dump(exclude_defaults=True))
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value


def _parts(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """The parts of a plan, with names as they were typed."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = str(as_text(key))
        if name in OF_RUNS and isinstance(value, Mapping):
            found[name] = {
                str(as_text(k)): {} if name == "arms" and isinstance(v, Word) and v.value is None
                else v
                for k, v in value.items()
            }  # fmt: skip
        else:
            found[name] = _numbers(value) if name in NUMBERS else _texts(value)
    return found


def _texts(value: Any) -> Any:  # noqa: ANN401
    """Words as they were typed, wherever they stand."""
    if isinstance(value, Mapping):
        return {str(as_text(key)): _texts(part) for key, part in value.items()}
    return [_texts(part) for part in value] if isinstance(value, list) else as_text(value)


def _numbers(value: Any) -> Any:  # noqa: ANN401
    """Words as what YAML makes of them."""
    if isinstance(value, Mapping):
        return {str(as_text(key)): _numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return value.value if isinstance(value, Word | Typed) else value


def _twice(node: yaml.Node | None) -> str | None:
    """A key that a mapping has twice, of which YAML would take the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    return str(key.value)
                seen.add(key.value)
            if found := _twice(value):
                return found
    if isinstance(node, yaml.SequenceNode):
        return next((found for part in node.value if (found := _twice(part))), None)
    return None


def _in_words(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in the words of a plan."""
    key = ".".join(str(part) for part in error["loc"])
    known = [name for name in ExperimentPlan.model_fields if name != "began"]
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(known)}"
        return f"`{key}` is no part of a plan. {hint}"
    if error["type"] == "missing":
        return f"`{key}` should be given. A plan has at least title, question, seeds and arms"
    said = should(error)
    return f"`{key}` {_lower(said)}. Found {_short(error['input'])}" if key else said


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _short(value: object) -> str:
    text = repr(_numbers(value))
    return text if len(text) <= 80 else f"{text[:80]}…"
