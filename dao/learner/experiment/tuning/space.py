"""What a search varies: ranges of numbers and choices, read from texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from dao.errors import UserError
from dao.learner.basics.words import read_yaml
from dao.learner.experiment.grid.search import is_fixed, of_task, settled_values
from dao.learner.kinds.declared import Undecided
from dao.learner.settings.config import Config

__all__ = ["Choices", "Range", "Space", "overrides_of", "read_space", "weights_in"]

WEIGHT = "weight"
"""The option of a task that stands for its constant loss weight, which `weighting` has."""
RANGE = re.compile(r"\s*([-+.\deE]+?)\.\.([-+.\deE]+)\s*")
ORDERS = 10.0
"""A range whose ends are this many times apart, both above 0, is searched by its logarithm."""
DIGITS = 4
"""Of a proposed number that is not whole: settings stay readable, and no score depends on more."""
FORM = "--tune should look like train.lr=1e-5..1e-3 or encoder.lora.r=2|4|8, once per setting."


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, which belong to it.

    Attributes:
        low: the smallest.
        high: the largest.
        whole: whether only whole numbers are proposed.
    """

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether it is searched by the logarithm."""
        return self.low > 0 and self.high / self.low >= ORDERS

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that a setting has to take if it takes all of them."""
        return (self._value(self.low), self._value(self.high))

    def propose(self, trial: Any, key: str) -> Any:  # noqa: ANN401
        """A value from a trial of optuna."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return self._value(trial.suggest_float(key, self.low, self.high, log=self.log))

    def _value(self, found: float) -> float | int:
        if self.whole:
            return int(found)
        return min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high)

    def __str__(self) -> str:
        scale = "by the logarithm" if self.log else "evenly"
        whole = "whole numbers from " if self.whole else ""
        return f"{whole}{self.low:g} to {self.high:g}, {scale}"


@dataclass(frozen=True)
class Choices:
    """Values without an order.

    Attributes:
        values: by the texts that name them.
    """

    values: Mapping[str, Any]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return tuple(self.values.values())

    def propose(self, trial: Any, key: str) -> Any:  # noqa: ANN401
        """A value from a trial of optuna."""
        return self.values[trial.suggest_categorical(key, list(self.values))]

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


Space = Mapping[str, Range | Choices]
"""Setting -> what is proposed for it."""


def read_space(options: Sequence[str], shared: Config) -> dict[str, Range | Choices]:
    """The space that the texts of --tune name.

    Args:
        options: such as train.lr=1e-5..1e-3, encoder.lora.r=2|4|8 and TASK.weight=.1..10.
        shared: the settings that all runs have.

    Raises:
        UserError: not of this form, a range that has no room or is of no numbers, a setting that
            there is none of or that a search should not vary, or weights beside another weighting.
    """
    space: dict[str, Range | Choices] = {}
    for text in options:
        key, equals, given = text.partition("=")
        if not equals or not key or key in space:
            raise UserError(f"{FORM} Found {text!r}.")
        if is_fixed(key):
            raise UserError(
                f"--tune should vary settings whose runs are scored alike. Found {key!r}. Train "
                f"with each value by itself, and compare over several seeds."
            )
        space[key] = _range(key, given, shared) if RANGE.fullmatch(given) else _choice(key, given)
    _check_weights(space, shared)
    return space


def overrides_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as flags take them; weights of tasks become one constant weighting.

    Example:
        >>> overrides_of({"train.lr": 0.1, "reg.weight": 3.0, "cls.beta": 0.9})
        {'train.lr': 0.1, 'tasks.cls.beta': 0.9, 'weighting': 'fixed:reg=3.0'}
    """
    found, weights = {}, []
    for key, value in values.items():
        task = of_task(key)
        if task and task[1] == WEIGHT:
            weights.append(f"{task[0]}={value!r}")
        else:
            found[".".join(("tasks", *task)) if task else key] = value
    return found | ({"weighting": f"fixed:{','.join(weights)}"} if weights else {})


def weights_in(keys: Sequence[str]) -> list[str]:
    """The keys that are constant weights of tasks.

    Example:
        >>> weights_in(["train.lr", "reg.weight"])
        ['reg.weight']
    """
    return [key for key in keys if (task := of_task(key)) and task[1] == WEIGHT]


def _range(key: str, text: str, shared: Config) -> Range:
    ends = RANGE.fullmatch(text)
    assert ends is not None
    try:
        low, high = float(ends[1]), float(ends[2])
    except ValueError:
        raise UserError(f"{FORM} Found {key}={text}.") from None
    kinds = {float} if key in weights_in([key]) else _kinds(key, shared)
    if not kinds & {int, float}:
        raise UserError(
            f"--tune should give a range to settings that are numbers. Found {key}={text}. Give "
            f"its values: {key}=A|B."
        )
    whole = float not in kinds
    if not low < high or (whole and not (low.is_integer() and high.is_integer())):
        of = "whole numbers, the smaller first" if whole else "numbers, the smaller first"
        raise UserError(f"--tune should give a range of {of}. Found {key}={text}.")
    return Range(low, high, whole)


def _choice(key: str, text: str) -> Choices:
    names = [name.strip() for name in text.split("|")]
    found: list[Any] = []
    if weights_in([key]):
        with suppress(ValueError):
            found = [float(name) for name in names]
    elif all(names):
        with suppress(yaml.YAMLError, RecursionError):
            found = settled_values(key, read_yaml(f"[{','.join(names)}]"))
    if len(found) != len(names) or len(set(names)) < max(2, len(names)):
        raise UserError(f"{FORM} It takes a range or several values. Found {key}={text}.")
    return Choices(dict(zip(names, found, strict=True)))


def _kinds(key: str, shared: Config) -> set[Any]:
    """The types that a setting takes.

    Raises:
        UserError: there is no such setting, or the kind of its task is not known yet.
    """
    model: Any = Config
    parts: tuple[str, ...] = tuple(key.split("."))
    if task := of_task(key):
        if task[0] not in shared.tasks:
            raise UserError(f"--tune should name settings. Found {key!r}, and no such task.")
        model, parts = type(shared.tasks[task[0]]), task[1:]
        if model is Undecided:
            raise UserError(
                f"--tune should name options of tasks whose kind is given. Found {key!r}. Say what "
                f"{task[0]} is with --tasks {task[0]}:KIND."
            )
    for part in parts:
        if get_origin(model) is dict:
            model = get_args(model)[1]
            continue
        fields = model.model_fields if _is_section(model) else {}
        if part not in fields:
            raise UserError(f"--tune should name settings. Found {key!r}, which is none.")
        model = fields[part].annotation
    return {model, *get_args(model)}


def _is_section(model: Any) -> bool:  # noqa: ANN401
    return isinstance(model, type) and issubclass(model, BaseModel)


def _check_weights(space: Space, shared: Config) -> None:
    """Refuse weights of tasks that there are none of, or beside a weighting of its own.

    Raises:
        UserError: naming the key or the weighting.
    """
    for key in weights_in(list(space)):
        task = of_task(key)
        assert task is not None
        if task[0] not in shared.tasks:
            raise UserError(f"--tune should name settings. Found {key!r}, and no such task.")
        if shared.weighting != "equal" or "weighting" in space:
            raise UserError(
                f"`{key}` of --tune is a constant loss weight. Found `weighting` "
                f"{shared.weighting if 'weighting' not in space else 'among what is tuned'}, which "
                f"sets the weights. Leave it out: one run with weighting=dao is trained beside the "
                f"search anyway."
            )
