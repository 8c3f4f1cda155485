"""Refusals of :class:`dao.DAOLoss`, each naming the value, what was found, and the remedy."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from dao.errors import UserError
from dao.importance import TOTALS

__all__ = [
    "check_data_weights",
    "check_names",
    "check_options",
    "check_some",
    "scalar_losses",
    "task_names",
]

_CHOICES = {
    "source": ("auto", "params", "rep", "last"),
    "rep_norm": ("adapter", "frobenius"),
    "total": TOTALS,
    "absent": ("hold", "renormalize"),
    "check_finite": ("always", "measured"),
}


def task_names(tasks: Iterable[str]) -> tuple[str, ...]:
    """The names in their order, which all ranks have to share; refuses what has none.

    A generator or the keys of a mapping will do; a set will not, as its order differs from process
    to process.
    """
    unordered = isinstance(tasks, str | set | frozenset) or not isinstance(tasks, Iterable)
    names = () if unordered else tuple(tasks)
    strings = all(isinstance(name, str) for name in names)
    if not names or not strings or len(set(names)) != len(names):
        found = tasks if unordered else list(names)
        raise UserError(
            f"`tasks` should be a list of distinct names, each a string. Found {found!r}. "
            "Give at least one, and each once, in the same order on all ranks."
        )
    return names


def check_names(what: str, names: Iterable[str], tasks: Sequence[str]) -> None:
    """Refuses names that are no task."""
    unknown = [name for name in names if name not in tasks]
    if unknown:
        raise UserError(
            f"`{what}` should only name the tasks {list(tasks)}. Found {unknown}. "
            "Correct the name, or list it when building the loss."
        )


def scalar_losses(losses: Mapping[str, Tensor | None], tasks: Sequence[str]) -> dict[str, Tensor]:
    """The losses that are there, in the order of the tasks; refuses what is no scalar."""
    if not isinstance(losses, Mapping):
        raise UserError(
            f"`losses` should be a mapping of task names to losses. Found {type(losses).__name__}. "
            f"Name them, e.g. `{{{tasks[0]!r}: loss}}`."
        )
    check_names("losses", losses, tasks)
    found = {task: losses.get(task) for task in tasks}
    given = {task: loss for task, loss in found.items() if loss is not None}
    for task, loss in given.items():
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(
                f"The loss `{task}` should be a tensor of shape (). Found {shape}. "
                "Reduce it, e.g. with `.mean()`; give None for an absent task."
            )
        if loss.is_complex() or loss.layout != torch.strided:
            raise UserError(
                f"The loss `{task}` should be a real, dense number. Found {loss.dtype}, "
                f"{loss.layout}. Give its absolute value, or `.to_dense()`."
            )
    return given


def check_data_weights(weights: Mapping[str, Tensor | float], tasks: Sequence[str]) -> None:
    """Refuses what is no task, no scalar, or a number that no loss can be multiplied with."""
    if not isinstance(weights, Mapping):
        raise UserError(
            "`data_weights` should be a mapping of task names to scalars. Found "
            f"{type(weights).__name__}. Name them, e.g. `{{{tasks[0]!r}: 0.5}}`."
        )
    check_names("data_weights", weights, tasks)
    for task, weight in weights.items():
        if isinstance(weight, Tensor):  # its value is on a device that is not waited for
            fits = weight.numel() == 1
            found: object = tuple(weight.shape)
        else:
            fits, found = _is_number(weight) and 0 <= weight < float("inf"), weight
        _require(fits, f"data_weights[{task!r}]", "a finite scalar >= 0", found, "Reduce it.")


def check_some(present: Iterable[str], tasks: Sequence[str]) -> None:
    """Refuses a batch in which no task counts."""
    if not list(present):
        raise UserError(
            f"`losses` should hold a usable loss for one of {list(tasks)}. Found none that is "
            "present, finite and requires grad. Skip the batch, or look for NaN in it and, if "
            "training has diverged, in the model's parameters."
        )


def check_options(
    tasks: Sequence[str], priors: Mapping[str, float], options: Mapping[str, Any]
) -> None:
    """Refuses options that are out of range or do not go together."""
    if not isinstance(priors, Mapping):
        raise UserError(
            f"`priors` should be a mapping of task names to numbers. Found {priors!r}. "
            f"Name them, e.g. `{{{tasks[0]!r}: 2.0}}`."
        )
    check_names("priors", priors, tasks)
    for task, value in priors.items():
        fits = _is_number(value) and 0 < value < float("inf")
        _require(fits, f"priors[{task!r}]", "> 0", value, "Leave it out for 1.")
    for name, choices in _CHOICES.items():
        value = options[name]
        fits = isinstance(value, str) and value in choices
        _require(fits, name, f"one of {choices}", value, "Choose one of them.")
    alpha, ema, ratio = options["alpha"], options["ema"], options["max_ratio"]
    fits = _is_number(alpha) and 0 <= alpha <= 1
    _require(fits, "alpha", "in [0, 1]", alpha, "Use 1 to even the gradients out.")
    fits = _is_number(ema) and 0 <= ema < 1
    _require(fits, "ema", "in [0, 1)", ema, "Use 0 for no smoothing.")
    fits = ratio is None or (_is_number(ratio) and ratio >= 1)
    _require(fits, "max_ratio", ">= 1 or None", ratio, "None: no bound.")
    for name, least in (("refresh_every", 1), ("accumulate", 1), ("calibrate_every", 0)):
        value = options[name]
        if name == "refresh_every" and value is None:
            continue
        fits = isinstance(value, int) and _is_number(value) and value >= least
        _require(fits, name, f"an integer >= {least}", value, "It counts steps.")


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0
    return isinstance(value, Real) and not isinstance(value, bool)


def _require(fits: bool, name: str, range_: str, value: object, remedy: str) -> None:
    if not fits:
        raise UserError(f"`{name}` should be {range_}. Found {value!r}. {remedy}")
