"""What :class:`dao.DAOLoss` says when it balances a task less than was asked, and why."""

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from dao.importance import inverse_norm_weights
from dao.schedule import FIRST, OFTEN

__all__ = [
    "PLACES",
    "START",
    "Seen",
    "beyond_the_bound",
    "broken",
    "constant",
    "drifted",
    "far_from_mean",
    "frozen",
    "one_by_one",
    "silent",
    "warn",
]

PLACES = {"params": "`params`", "rep": "the tapped representation", "last": "`module`"}
"""What norms are taken over, by `source`."""

# Steps before a task whose gradient is always zero is suspicious: heads may start at zero.
SILENT_AFTER = 8

START = 8
"""Measurements whose mean is what a task's norm started at."""

# A weight that is wrong by this factor leaves its task with no say, or with all of it.
FAR = 1e3


class Seen(NamedTuple):
    """One task's measurement, as plain numbers.

    Attributes:
        norm: The norm that was measured.
        log_mean: The running mean of log norms, which has taken it in.
        measured: Measurements in that mean.
        turns: Training calls that had the task.
        log_start: The running mean after `START` measurements; NaN before that.
    """

    norm: float
    log_mean: float
    measured: float
    turns: float
    log_start: float = math.nan


def constant(losses: Mapping[str, Tensor]) -> dict[str, str]:
    """What to say of losses without a graph, by task.

    Example:
        >>> import torch
        >>> list(constant({"a": torch.ones(()), "b": torch.ones((), requires_grad=True)}))
        ['a']
    """
    return {
        task: f"The loss of {task!r} requires no grad, and counts as absent. Was it detached? "
        "Give None for a task that the batch lacks."
        for task, loss in losses.items()
        if not loss.requires_grad
    }


def silent(seen: Mapping[str, Seen], unreached: Sequence[str], place: str) -> dict[str, str]:
    """What to say of tasks whose gradient is exactly zero, by task.

    Args:
        seen: The measurements.
        unreached: Tasks whose loss does not depend on what norms are taken over.
        place: What norms are taken over, in words.

    Example:
        >>> list(silent({"a": Seen(0.0, 0.0, 0, 1), "b": Seen(0.0, 0.0, 3, 9)}, [], "`params`"))
        ['b']
    """
    said = {}
    for task, row in seen.items():
        if row.norm != 0:
            continue
        if task in unreached:
            said[task] = (
                f"The loss of {task!r} does not depend on {place}, so this task is not balanced: "
                "its weight is that of an average task. Take norms over what all tasks share, e.g. "
                "tap the representation where every head begins."
            )
        elif row.measured:
            said[task] = (
                f"The gradient of {task!r} at {place} is exactly zero in this batch, and was "
                "larger before. Its weight stays as it is. Give None as the loss of a task that "
                "the batch lacks; else the loss has nothing left to learn from such a batch."
            )
        elif row.turns > SILENT_AFTER:
            said[task] = (
                f"The gradient of {task!r} at {place} has been exactly zero at every measurement, "
                "so this task is not balanced: its weight is that of an average task. Check that "
                "its head trains, and that norms are taken over what all tasks share."
            )
    return said


def far_from_mean(seen: Mapping[str, Seen], ema: float) -> dict[str, str]:
    """What to say of tasks whose norm is a thousand times its mean or more, or so much below it.

    Args:
        seen: The measurements.
        ema: What a measurement leaves of a gap between the mean and a constant norm.

    Example:
        >>> said = far_from_mean({"a": Seen(1e6, 0.0, 50, 60), "b": Seen(2.0, 0.0, 50, 60)}, 0.9)
        >>> {task: text.split(",")[0] for task, text in said.items()}
        {'a': "The gradient norm of 'a' is 1e+06 times its running mean"}
    """
    said = {}
    for task, row in seen.items():
        if not (row.measured and 0 < row.norm < math.inf):
            continue
        gap = math.log(row.norm) - row.log_mean
        if abs(gap) > math.log(FAR):
            size = "large" if gap > 0 else "small"
            count = math.ceil(math.log(math.log(2) / abs(gap)) / math.log(ema))
            said[task] = (
                f"The gradient norm of {task!r} is {math.exp(gap):.2g} times its running mean, and "
                f"its weight too {size} by about this factor. If the norm stays, the weight comes "
                f"within a factor of 2 in about {count} measurements. Call `reset()` after a "
                "change of the loss's scale; lower `refresh_every` or `ema` where norms move fast."
            )
    return said


def drifted(rows: Mapping[str, Seen], alpha: float) -> dict[str, str]:
    """What to say of tasks whose weight has moved a thousandfold against the other tasks' weights.

    Told is the task whose gradient has moved, and not those that stand still beside it.

    Args:
        rows: All tasks, measured in this call or not.
        alpha: As for :func:`dao.inverse_norm_weights`: how far weights follow norms.

    Example:
        >>> rows = {"a": Seen(1e-4, -9.2, 90, 99, 0.0), "b": Seen(1.0, 0.0, 90, 99, 0.0)}
        >>> {task: text.split(",")[0] for task, text in drifted(rows, alpha=1.0).items()}
        {'a': "Beside the other weights that of 'a' is 9.9e+03 times what it began with"}
    """
    moves = {t: row.log_mean - row.log_start for t, row in rows.items()}
    known = {t: move for t, move in moves.items() if math.isfinite(move)}
    said, total = {}, sum(known.values())
    for task, move in known.items():
        others = (total - move) / max(1, len(known) - 1)
        gap = alpha * (others - move)
        if abs(gap) <= math.log(FAR) or abs(move) < abs(others):
            continue
        found = f"Beside the other weights that of {task!r} is {math.exp(gap):.2g} times what it "
        said[task] = found + (
            "began with, as its gradient vanishes. A task that is learnt, or has nothing to teach, "
            "can so outweigh the others: set its entry of `priors` below 1, or a `max_ratio`, if "
            "their figures suffer."
            if gap > 0
            else "began with, as its gradient grows. Check that its loss still falls."
        )
    return said


def one_by_one(tasks: Sequence[str], source: str, gap: int) -> dict[str, str]:
    """What to say where some tasks wait for their first measurement, in one text.

    Args:
        tasks: Names of all tasks.
        source: Where norms are taken: ``"params"`` or ``"last"``.
        gap: Steps between the turns of two tasks.

    Example:
        >>> one_by_one(list("abcd"), "params", 20)
        {}
        >>> one_by_one(list(map(str, range(32))), "params", 20)["in turn"].split(". ")[0]
        'Norms over `params` are measured for one of 32 tasks at a time, every 20 steps'
    """
    if len(tasks) <= FIRST:
        return {}
    text = (
        f"Norms over {PLACES[source]} are measured for one of {len(tasks)} tasks at a time, every "
        f"{gap} steps. The last task waits for {gap * (len(tasks) - FIRST)} steps, and until then "
        "its weight follows from its first loss. Call `z = balance.tap(z)` inside the model's "
        f"forward, without a `source`, to measure all tasks every {OFTEN} steps at next to no "
        "cost; or set `refresh_every`, which measures all at once."
    )
    return {"in turn": text}


def beyond_the_bound(
    tasks: Sequence[str], log_norms: Tensor, alpha: float, prior: Tensor, max_ratio: float
) -> dict[str, str]:
    """What to say where a bound moves weights, in one text; nothing where it moves none.

    Args:
        tasks: Names, K of them.
        log_norms: Natural logarithms of the norms in force, shape ``(K,)``.
        alpha: As for :func:`dao.inverse_norm_weights`.
        prior: Shape ``(K,)``.
        max_ratio: The bound.

    Example:
        >>> import torch
        >>> logs, prior = torch.tensor([1.0, 1e6]).log(), torch.ones(2)
        >>> beyond_the_bound(["a", "b"], logs, 1.0, prior, 1e4)["max_ratio"].split(":")[0]
        '`max_ratio=10000` holds the weight of b up'
    """
    weights = inverse_norm_weights(log_norms, alpha=alpha, prior=prior).tolist()
    top = max(weights)
    ratios = {task: top / max(w, 1e-300) for task, w in zip(tasks, weights, strict=True)}
    moved = [task for task, ratio in ratios.items() if ratio > max_ratio * (1 + 1e-9)]
    if not moved:
        return {}
    text = (
        f"`max_ratio={max_ratio:g}` holds the weight of {', '.join(moved)} up: without this bound "
        f"the largest weight would be {max(ratios.values()):.3g} times the smallest. Such a task "
        "pulls harder than the others. Give None as `max_ratio` to balance them."
    )
    return {"max_ratio": text}


def broken(tasks: Sequence[str]) -> str:
    """What to say of tasks whose loss or gradient is NaN or infinite."""
    return (
        f"Loss or gradient of {list(tasks)} is NaN or infinite, and left out of this step. Later "
        "cases are only counted, in `state.dropped`."
    )


def frozen(source: str) -> str:
    """What to say where nothing was ever measured, as nothing shared has trained so far.

    Args:
        source: Where norms are taken: ``"params"``, ``"last"`` or ``"rep"``.
    """
    what = {"params": "`params`", "last": "`module`", "rep": "The tapped representation"}[source]
    look = {
        "params": "give the parameters that train, e.g. those of the LoRA adapter",
        "last": "give a module that trains",
        "rep": "look for `detach` or `no_grad` before `tap`",
    }[source]
    return (
        f"{what} should require grad. Found nothing that does, so weights stand as they are until "
        f"something does. If the encoder should train by now, {look}."
    )


def warn(text: str) -> None:
    """Warns with the line that called this package, through whatever modules of torch."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_between(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _is_between(module: str) -> bool:
    return module.partition(".")[0] in ("dao", "torch")
