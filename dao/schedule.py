"""When :class:`dao.DAOLoss` measures which tasks, so that its cost stays flat in their number.

A norm over the shared parameters takes a backward per task; at the representation, if the model
taps it, a norm is nearly free. So with a tap all tasks are measured there, and are compared with
their norms over the parameters in turn. Without a tap, up to three tasks are measured together, and
more of them one at a time.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = [
    "FIRST",
    "OFTEN",
    "MeasuringPlan",
    "chosen",
    "credits",
    "due",
    "in_turn",
    "measuring_plan",
    "spent",
]

EVERY = 50
"""Steps between measurements of all tasks over the parameters."""

FEW = 3
"""Tasks that are measured together: 13 measurements of each over the parameters in the first 500
steps, or one at the representation in every step."""

FIRST = 8
"""Tasks that are measured at their first step, where the turn goes round."""

GAP = 25
"""Steps between one task's measurement and the next one's, where the turn goes round."""

OFTEN = 10
"""Steps between measurements of more tasks at the representation."""

GAP_BETWEEN = 50
"""Steps between two comparisons; each compares one task's norm at the representation with its norm
over `params`."""


class MeasuringPlan(NamedTuple):
    """Where and how often to measure.

    Attributes:
        source: ``"params"``, ``"rep"`` or ``"last"``.
        every: Steps between measurements of all tasks, see :func:`due`; 0 for never.
        gap: Steps between the turns of two tasks; 0 if nothing goes round. A turn is a measurement
            where `every` is 0, and else a comparison with the norm over all parameters.
    """

    source: str
    every: int
    gap: int

    @property
    def taken_in_turn(self) -> bool:
        """Whether measurements themselves go round."""
        return self.every == 0


def measuring_plan(
    source: str, tasks: int, refresh_every: int | None, *, tapped: bool
) -> MeasuringPlan:
    """What the options come to.

    Args:
        source: As given to :class:`dao.DAOLoss`.
        tasks: Their number.
        refresh_every: As given.
        tapped: Whether the representation of the first training batch was tapped.

    Example:
        >>> measuring_plan("auto", 2, None, tapped=False)
        MeasuringPlan(source='params', every=50, gap=0)
        >>> measuring_plan("auto", 2, None, tapped=True)
        MeasuringPlan(source='rep', every=1, gap=50)
        >>> measuring_plan("auto", 32, None, tapped=False)
        MeasuringPlan(source='params', every=0, gap=25)
        >>> measuring_plan("auto", 32, None, tapped=True)
        MeasuringPlan(source='rep', every=10, gap=50)
        >>> measuring_plan("auto", 32, 100, tapped=True)
        MeasuringPlan(source='params', every=100, gap=0)
    """
    place = "params" if source == "auto" else source
    if refresh_every is not None:
        return MeasuringPlan(place, refresh_every, 0)
    compared = source == "auto" and tapped
    if compared or place == "rep":
        return MeasuringPlan("rep", 1 if tasks <= FEW else OFTEN, GAP_BETWEEN if compared else 0)
    return MeasuringPlan(place, EVERY, 0) if tasks <= FEW else MeasuringPlan(place, 0, GAP)


def due(step: int, every: int) -> bool:
    """Whether to measure all: each period, and at 0, 1, 4, 16, 64, ... in the first one.

    One noisy batch then decides for a few steps, not for the whole first period.

    Args:
        step: Steps of the task so far.
        every: The period; 0 for never.

    Example:
        >>> [step for step in range(101) if due(step, 50)]
        [0, 1, 4, 16, 50, 100]
    """
    if every == 0:
        return False
    power_of_four = step & (step - 1) == 0 and step.bit_length() % 2 == 1
    return step % every == 0 or (step < every and power_of_four)


def chosen(
    plan: MeasuringPlan, steps: Mapping[str, int], turn: Sequence[str], calibrate_every: int
) -> tuple[list[str], list[str]]:
    """Which tasks to measure, and which of those to compare.

    Args:
        plan: Where and how often.
        steps: Of the tasks of a call, the optimizer steps so far that had the task.
        turn: Those whose turn it is.
        calibrate_every: As given to :class:`dao.DAOLoss`.

    Example:
        >>> chosen(MeasuringPlan("rep", 10, 50), {"a": 20, "b": 3, "c": 3}, ["c"], 0)
        (['a', 'c'], ['c'])
        >>> chosen(MeasuringPlan("params", 0, 20), {"a": 20, "b": 3, "c": 3}, ["c"], 0)
        (['c'], [])
    """
    compared = {t for t, step in steps.items() if calibrate_every and step % calibrate_every == 0}
    if not plan.taken_in_turn:
        compared |= set(turn)
    measured = compared | set(turn) | {t for t, step in steps.items() if due(step, plan.every)}
    return [t for t in steps if t in measured], [t for t in steps if t in compared]


def credits(
    turns: Mapping[str, int], credit: Mapping[str, float], present: Sequence[str]
) -> dict[str, float]:
    """How near each present task is to its turn, which it has from 1 on.

    The first eight tasks to come have their turn at once, and the later ones one after the other
    as they came; then the turn goes round.

    Args:
        turns: Training calls so far that had the task, for all tasks.
        credit: As kept, for all tasks; that of a task without a call is not looked at.
        present: Tasks of this call.

    Example:
        >>> names = [f"t{k}" for k in range(10)]
        >>> start = credits(dict.fromkeys(names, 0), dict.fromkeys(names, 0.0), names)
        >>> [task for task, value in start.items() if value >= 1]
        ['t0', 't1', 't2', 't3', 't4', 't5', 't6', 't7']
        >>> start["t8"], start["t0"]  # next in line, and after it t9 and t0 again
        (0.9, 1.7)
    """
    size, come = len(turns), sum(count > 0 for count in turns.values())
    found = {}
    for task in present:
        if turns[task]:
            found[task] = credit[task]
            continue
        first = come < FIRST
        wait = max(size - FIRST, 0) + come + 1 if first else come - FIRST + 1
        found[task] = first + 1 - wait / size
        come += 1
    return found


def in_turn(credit: Mapping[str, float]) -> list[str]:
    """The tasks whose turn it is."""
    return [task for task, value in credit.items() if value >= 1 - 1e-9]  # sums are rounded


def spent(credit: Mapping[str, float], gap: int) -> dict[str, float]:
    """Credits after a step: the tasks of a step share ``1 / gap``, and a turn costs 1.

    So there is a turn every `gap` steps, whichever tasks a batch has, and no task waits longer
    than `gap` times the number of tasks, counted in steps that have the task.

    Example:
        >>> spent({"a": 1.0, "b": 0.5}, gap=20)
        {'a': 0.025, 'b': 0.525}
    """
    had = in_turn(credit)
    return {t: value - (t in had) + 1 / (gap * len(credit)) for t, value in credit.items()}
