"""Refusals of :class:`dao.DAOLoss`, each naming the value, what was found, and the remedy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from dao.errors import UserError
from dao.importance import TOTALS

__all__ = ["check_data_weights", "check_names", "check_options", "check_some", "scalar_losses"]

_CHOICES = {
    "source": ("params", "rep", "last"),
    "rep_norm": ("adapter", "frobenius"),
    "total": TOTALS,
    "absent": ("hold", "renormalize"),
    "check_finite": ("always", "measured"),
}


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
    given = {task: loss for task in tasks if (loss := losses.get(task)) is not None}
    for task, loss in given.items():
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(
                f"The loss `{task}` should be a tensor of shape (). Found {found}. "
                "Reduce it, e.g. with `.mean()`; give None for an absent task."
            )
    return given


def check_data_weights(weights: Mapping[str, Tensor | float], tasks: Sequence[str]) -> None:
    """Refuses what is no task, no scalar, or a number that no loss can be multiplied with."""
    check_names("data_weights", weights, tasks)
    for task, weight in weights.items():
        if isinstance(weight, Tensor):  # its value is on a device that is not waited for
            fits = weight.numel() == 1
            found: object = tuple(weight.shape)
        else:
            fits, found = 0 <= weight < float("inf"), weight
        _require(fits, f"data_weights[{task!r}]", "a finite scalar >= 0", found, "Reduce it.")


def check_some(present: Iterable[str], tasks: Sequence[str]) -> None:
    """Refuses a batch in which no task counts."""
    if not list(present):
        raise UserError(
            f"`losses` should hold a usable loss for one of {list(tasks)}. Found none that is "
            "present, finite and requires grad. Skip the batch, or look for NaN in it."
        )


def check_options(
    tasks: Sequence[str], priors: Mapping[str, float], options: Mapping[str, Any]
) -> None:
    """Refuses options that are out of range or do not go together."""
    if isinstance(tasks, str) or not tasks or len(set(tasks)) != len(tasks):
        raise UserError(
            f"`tasks` should be a list of distinct names. Found {tasks!r}. "
            "Give at least one, and each once."
        )
    check_names("priors", priors, tasks)
    for task, value in priors.items():
        _require(0 < value < float("inf"), f"priors[{task!r}]", "> 0", value, "Leave it out for 1.")
    for name, choices in _CHOICES.items():
        value = options[name]
        _require(value in choices, name, f"one of {choices}", value, "Choose one of them.")
    alpha, ema, ratio = options["alpha"], options["ema"], options["max_ratio"]
    _require(0 <= alpha <= 1, "alpha", "in [0, 1]", alpha, "Use 1 to even the gradients out.")
    _require(0 <= ema < 1, "ema", "in [0, 1)", ema, "Use 0 for no smoothing.")
    _require(ratio is None or ratio >= 1, "max_ratio", ">= 1 or None", ratio, "None: no bound.")
    for name, least in (("refresh_every", 1), ("accumulate", 1), ("calibrate_every", 0)):
        value = options[name]
        fits = isinstance(value, int) and value >= least
        _require(fits, name, f"an integer >= {least}", value, "It counts steps.")


def _require(fits: bool, name: str, range_: str, value: object, remedy: str) -> None:
    if not fits:
        raise UserError(f"`{name}` should be {range_}. Found {value!r}. {remedy}")
