"""What `--weighting NAME` may be: names with their numbers, read and refused here."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dao.learner.basics.wording import listed

__all__ = ["Spec", "accumulates", "folder_part", "parse_weighting"]

LONGEST = 60
"""Characters of a weighting up to which it names a folder as it is."""

# Name -> its one number: what it is and what it is by default; None where there is none to give.
NAMES: dict[str, tuple[str, float] | None] = {
    "dao": None,
    "equal": None,
    "gls": None,
    "uw": None,
    "uw_so": ("temperature", 1.0),
    "dwa": ("temperature", 2.0),
    "rlw": None,
    "gradnorm": ("alpha", 1.5),
    "famo": None,
    "dbmtl": ("beta", 0.9),
    "imtl_l": None,
    "norm0": ("steps", 10.0),
    "autoscale": ("steps", 100.0),
}


@dataclass(frozen=True)
class Spec:
    """A weighting as the settings name it.

    Attributes:
        name: one of the keys of `NAMES`, or `fixed`, or `torchjd`.
        numbers: the weights of `fixed`, in the order of the tasks; else the method's one number, if
            it has one.
        aggregator: for `torchjd`, the name of a class of `torchjd.aggregation`.
        options: for `torchjd`, its keyword arguments.
    """

    name: str
    numbers: tuple[float, ...] = ()
    aggregator: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def parse_weighting(text: str, tasks: Sequence[str]) -> Spec:
    """Read `dao`, `uw_so:2`, `fixed:1,30`, `torchjd:UPGrad`, `torchjd:GradVac(beta=0.3)`, ...

    The weights of `fixed` stand in the order of the tasks, or behind their names; a task that is
    not named then has the weight 1.

    Raises:
        ValueError: there is no such weighting, or its numbers do not fit.

    Example:
        >>> parse_weighting("fixed:churn=30", ["topic", "churn"]).numbers
        (1.0, 30.0)
    """
    name, _, rest = text.partition(":")
    if name == "fixed":
        return Spec(name, _weights(rest, tasks))
    if name == "torchjd":
        return _torchjd(rest)
    if name not in NAMES:
        known = ", ".join([*NAMES, "fixed:W,W,... or fixed:TASK=W,...", "torchjd:NAME"])
        raise ValueError(f"should be one of {known}")
    number = NAMES[name]
    if number is None:
        if rest:
            raise ValueError(f"`{name}` takes no number")
        return Spec(name)
    return Spec(name, (_number(rest, name, number[0]) if rest else number[1],))


def accumulates(text: str) -> bool:
    """Whether the weights are known before the losses of all batches of an optimizer step are.

    Example:
        >>> accumulates("fixed:1,30"), accumulates("gradnorm:1.5")
        (True, False)
    """
    return text.partition(":")[0] in ("dao", "equal", "fixed")


def _weights(text: str, tasks: Sequence[str]) -> tuple[float, ...]:
    if "=" in text:
        return _named_weights(text, tasks)
    weights = tuple(_number(part, "fixed", "weight") for part in text.split(","))
    if len(weights) != len(tasks):
        raise ValueError(f"`fixed` should have a weight for each of {', '.join(tasks)}, in order")
    return weights


def _named_weights(text: str, tasks: Sequence[str]) -> tuple[float, ...]:
    pairs = [part.strip().partition("=") for part in text.split(",")]
    given: dict[str, float] = {}
    for name, equals, weight in pairs:
        if not equals:
            raise ValueError(
                f"`fixed` should have weights in the order of the tasks (fixed:1,30) or all behind "
                f"names (fixed:{tasks[-1]}=30), not both"
            )
        if name not in tasks:
            raise ValueError(
                f"`fixed` should name tasks, of {listed(list(tasks))}; {name!r} is none of them"
            )
        if name in given:
            raise ValueError(f"`fixed` should name each task once; {name} is there twice")
        given[name] = _number(weight, f"fixed:{name}", "weight", "=")
    return tuple(given.get(task, 1.0) for task in tasks)


def folder_part(weighting: str) -> str:
    """The weighting as part of a folder's name, short however many weights it has.

    Example:
        >>> folder_part("fixed:topic=1,churn=30"), folder_part("torchjd:GradVac(beta=0.3)")
        ('fixed_topic_1_churn_30', 'torchjd_GradVac_beta_0.3_')
    """
    name = re.sub(r"[^\w.]+", "_", weighting)
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(weighting.encode()).hexdigest()[:8]
    return f"{weighting.partition(':')[0]}_{digest}"


def _number(text: str, name: str, what: str, before: str = ":") -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if what == "steps" and not (number >= 1 and number.is_integer()):
        raise ValueError(f"`{name}` should have a whole number of steps, for example {name}:20")
    if not 0 < number < float("inf"):
        raise ValueError(f"`{name}` should have a {what} > 0, for example {name}{before}1.5")
    return number


def _torchjd(text: str) -> Spec:
    try:
        expression = ast.parse(text, mode="eval").body
        call = expression if isinstance(expression, ast.Call) else ast.Call(expression, [], [])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, SyntaxError, TypeError):
        raise ValueError(
            "`torchjd` should be followed by an aggregator, for example torchjd:UPGrad or "
            "torchjd:GradVac(beta=0.3)"
        ) from None
    return Spec("torchjd", aggregator=call.func.id, options=options)
