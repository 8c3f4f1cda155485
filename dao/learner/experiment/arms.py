"""The arms of the experiment: what each sets, and what readers call it.

By default a 2 x 2 of DAO and dendrites, and beside it what could explain an effect of dendrites
other than dendrites: `sham` has them but never trains them, `capacity` has as many parameters
elsewhere, and where dendrites learn at a rate of their own, `restart-lr` gives it to all weights.
The single tasks say what sharing an encoder costs or brings. An arm without dendrites
has the control `restart`, so that all reload their best weights and restart their optimizer after
the same steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dao.errors import UserError

__all__ = [
    "ARMS",
    "GROWS",
    "KNOWN",
    "PAPER",
    "PLACES",
    "RESTART_LR",
    "SETS_APART",
    "chosen",
    "known_arms",
    "label",
]

RESTART = {"dendrites.enabled": True, "dendrites.control": "restart"}
RESTART_LR = "restart-lr"
"""`base` whose weights all learn, after the first restart, at the multiple `dendrites.lr`."""
GROWN = {"dendrites.enabled": True, "dendrites.control": "none"}

ARMS: Mapping[str, Mapping[str, Any]] = {
    "base": {"weighting": "equal", **RESTART},
    "dao": {"weighting": "dao", **RESTART},
    "dendrites": {"weighting": "equal", **GROWN},
    "dao+dendrites": {"weighting": "dao", **GROWN},
    "sham": {"weighting": "equal", **GROWN, "dendrites.control": "sham"},
    "capacity": {"weighting": "equal", **GROWN, "dendrites.control": "capacity"},
}
"""What defines each arm, in the order of all tables; every other setting is the same in all. Beside
them each task has an arm of its name, in which it is alone."""

PAPER: Mapping[str, Any] = {
    "dao.source": "params",
    "dao.alpha": 1.0,
    "dao.total": "one",
    "dao.ema": 0.0,
    "dao.refresh_every": 1,
    "dao.max_ratio": None,
    "dao.absent": "renormalize",
}
"""The settings of `DAOLoss.paper`: the bare rule of arXiv 2408.11856."""

KNOWN: Mapping[str, Mapping[str, Any]] = {
    **ARMS,
    RESTART_LR: {"weighting": "equal", **RESTART},
    "dao-paper": {"weighting": "dao", **RESTART, **PAPER},
}
"""Those, and arms that an experiment has only where they are asked for. No task may have one of
these names."""

SETS_APART = (
    "tasks",
    "split_tasks",
    "weighting",
    "dendrites.enabled",
    "dendrites.control",
    "dendrites.restart_lr",
)
"""The settings in which arms may differ."""

PLACES = (
    "output", "cache", "name", "train.track", "train.page", "data.rules",
    "dendrites.graph", "dendrites.growths_of",
)  # fmt: skip
"""Settings that change no result of themselves. What `data.rules` changes shows in the data's
fingerprint, what `dendrites.growths_of` changes in the steps of the restarts."""
GROWS = "dendrites"
"""With `dendrites.patience`, the arm that grows by itself; the others copy its growths."""


def known_arms(tasks: Sequence[str], lr: float = 1.0) -> dict[str, Mapping[str, Any]]:
    """What defines each arm of an experiment on these tasks, in the order of all tables.

    Args:
        tasks: by name.
        lr: `dendrites.lr` of the experiment; at 1 there is no arm `restart-lr`, which would be
            `base` again.

    Example:
        >>> list(known_arms(["topic", "stars"]))[-3:]
        ['topic', 'stars', 'dao-paper']
        >>> known_arms(["topic"], lr=10.0)["restart-lr"]["dendrites.restart_lr"]
        10.0
    """
    alone = {task: {"tasks": [task], **RESTART} for task in tasks} if len(tasks) > 1 else {}
    fast = {RESTART_LR: {**KNOWN[RESTART_LR], "dendrites.restart_lr": lr}} if lr != 1.0 else {}
    paper = {"dao-paper": KNOWN["dao-paper"]}
    found = {**ARMS, **fast, **alone, **paper}
    return {
        arm: own
        for arm, own in found.items()
        if len(tasks) > 1 or own.get("weighting", "equal") == "equal"
    }


def chosen(tasks: Sequence[str], names: Sequence[str] = (), lr: float = 1.0) -> tuple[str, ...]:
    """The arms of an experiment on these tasks, in the order of all tables.

    Args:
        tasks: by name.
        names: of the arms; none: all but `dao-paper`, with one task those that have just one.
        lr: `dendrites.lr` of the experiment.

    Raises:
        UserError: an arm is unknown or named twice, or takes two tasks where there is one.

    Example:
        >>> chosen(["topic"]), chosen(["topic", "stars"], ["dendrites", "base"])
        (('base', 'dendrites', 'sham', 'capacity'), ('base', 'dendrites'))
    """
    fit = known_arms(tasks, lr)
    for name in names:
        if name not in fit or list(names).count(name) > 1:
            alone = f" for --tasks {tasks[0]} alone" if len(tasks) == 1 and name not in fit else ""
            alone = " with dendrites.lr=1, where it would be base" if name == RESTART_LR else alone
            raise UserError(
                f"--arms should name arms of the experiment, each once. Found {name!r}{alone}. "
                f"There are {', '.join(fit)}."
            )
    return tuple(arm for arm in fit if (arm in names if names else arm != "dao-paper"))


def label(arm: str, tasks: Collection[str]) -> str:
    """What readers see in place of an arm's folder name.

    Args:
        arm: its name.
        tasks: of the experiment; an arm with the name of one has that task alone.

    Example:
        >>> label("topic", ["topic", "stars"]), label("mine", ["topic", "stars"])
        ('topic alone', 'mine')
    """
    return f"{arm} alone" if arm in tasks else arm
