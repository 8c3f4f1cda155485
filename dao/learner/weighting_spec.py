"""What `--weighting NAME` may be: names with their numbers, read and refused here."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Spec", "accumulates", "parse_weighting"]

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

    Raises:
        ValueError: there is no such weighting, or its numbers do not fit.
    """
    name, _, rest = text.partition(":")
    if name == "fixed":
        return Spec(name, _weights(rest, tasks))
    if name == "torchjd":
        return _torchjd(rest)
    if name not in NAMES:
        known = ", ".join([*NAMES, "fixed:W,W,...", "torchjd:NAME"])
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
    weights = tuple(_number(part, "fixed", "weight") for part in text.split(","))
    if len(weights) != len(tasks):
        raise ValueError(f"`fixed` should have a weight for each of {', '.join(tasks)}, in order")
    return weights


def _number(text: str, name: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise ValueError(f"`{name}` should have a {what} > 0, for example {name}:1.5")
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
