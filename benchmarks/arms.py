"""The contestants, by name; a further one is an entry here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.ours import Ours
from benchmarks.reference import TrainerArm
from benchmarks.timing import Arm
from benchmarks.work import Work

__all__ = ["ARMS", "DEFAULT", "REFERENCES"]

ARMS: dict[str, Callable[[Work], Arm]] = {
    "trainer_padded": partial(TrainerArm, best=False),
    "trainer_best": partial(TrainerArm, best=True),
    "ours": Ours,
    "ours_dao": partial(Ours, dao=True),
    "ours_dendrites": partial(Ours, dao=True, dendrites=True),
    "ours_half": partial(Ours, half=True),
    "ours_half_cached": partial(Ours, half=True, cached=True),
}
REFERENCES = ("trainer_padded", "trainer_best")
"""What the others are compared with."""
DEFAULT = (*REFERENCES, "ours", "ours_dao")
"""All but those that need perforatedai or train other adapters."""
