"""The arms of the experiment: what each sets, and what readers call it.

By default a 2 x 2 of DAO and dendrites, and beside it what could explain an effect of dendrites
other than dendrites: `sham` has them but never trains them, `capacity` has as many parameters
elsewhere. The single tasks say what sharing an encoder costs or brings. An arm without dendrites
has the control `restart`, so that all reload their best weights and restart their optimizer after
the same steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dao.errors import UserError

__all__ = [
    "ARMS",
    "KNOWN",
    "PAPER",
    "PLACES",
    "SETS_APART",
    "chosen",
    "known_arms",
    "label",
]

RESTART = {"dendrites.enabled": True, "dendrites.control": "restart"}
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
    "dao-paper": {"weighting": "dao", **RESTART, **PAPER},
}
"""Those, and arms that an experiment has only where they are asked for. No task may have one of
these names."""

SETS_APART = ("tasks", "split_tasks", "weighting", "dendrites.enabled", "dendrites.control")
"""The settings in which arms may differ."""

PLACES = ("output", "cache", "name", "data.rules")
"""Settings that change no result; what `data.rules` changes shows in the data's fingerprint."""


def known_arms(tasks: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What defines each arm of an experiment on these tasks, in the order of all tables.

    Example:
        >>> list(known_arms(["topic", "stars"]))[-3:]
        ['topic', 'stars', 'dao-paper']
    """
    alone = {task: {"tasks": [task], **RESTART} for task in tasks} if len(tasks) > 1 else {}
    paper = {"dao-paper": KNOWN["dao-paper"]}
    found = {**ARMS, **alone, **paper}
    return {
        arm: own
        for arm, own in found.items()
        if len(tasks) > 1 or own.get("weighting", "equal") == "equal"
    }


def chosen(tasks: Sequence[str], names: Sequence[str] = ()) -> tuple[str, ...]:
    """The arms of an experiment on these tasks, in the order of all tables.

    Args:
        tasks: by name.
        names: of the arms; none: all but `dao-paper`, with one task those that have just one.

    Raises:
        UserError: an arm is unknown or named twice, or takes two tasks where there is one.

    Example:
        >>> chosen(["topic"]), chosen(["topic", "stars"], ["dendrites", "base"])
        (('base', 'dendrites', 'sham', 'capacity'), ('base', 'dendrites'))
    """
    fit = known_arms(tasks)
    for name in names:
        if name not in fit or list(names).count(name) > 1:
            alone = f" for --tasks {tasks[0]} alone" if len(tasks) == 1 and name not in fit else ""
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
