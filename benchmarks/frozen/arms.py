"""The rows of the tables: what weights the losses, by name; a further one is an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.rules import Parts, Sum
from dao import DAOLoss
from dao.learner.settings.weighting_spec import parse_weighting
from dao.learner.weighting.first_steps import make as first_steps
from dao.learner.weighting.gradient_weighting import make as by_gradient
from dao.learner.weighting.scalarizers import Scalarized
from dao.learner.weighting.weighting import Balanced, Weighting

__all__ = ["ALONE", "ARMS", "MEAN", "Arm"]

ALONE = "alone:"
"""Begins the name of a run of one task by itself."""
MEAN = "mean"
"""The model that knows the training rows' mean (or commonest class) and nothing else."""
Make = Callable[[Parts, float], Weighting]


@dataclass(frozen=True)
class Arm:
    """One row.

    Attributes:
        about: what it is, in a table.
        make: the weighting, of a model and its learning rate.
        power: a loss enters times (variance of its target) ** -power: 0 is the loss in the target's
            own unit, 1 the loss of the standardised target.
    """

    about: str
    make: Make
    power: float = 0.0


def _sum(_: Parts, __: float) -> Weighting:
    return Sum()


def _dao(parts: Parts, _: float, **options: Any) -> Weighting:  # noqa: ANN401
    return Balanced(DAOLoss(parts.tasks, params=parts.encoder.parameters, **options))


def _paper(parts: Parts, _: float) -> Weighting:
    return Balanced(DAOLoss.paper(parts.tasks, parts.encoder.parameters))


def _by_value(name: str, parts: Parts, rate: float, own_rate: float | None = None) -> Weighting:
    spec = parse_weighting(name, parts.tasks)
    return Scalarized(spec, parts.tasks, lr=rate if own_rate is None else own_rate)


def _by_gradient(name: str, parts: Parts, _: float) -> Weighting:
    spec = parse_weighting(name, parts.tasks)
    return by_gradient(spec, parts.tasks, lambda: parts.shared, lambda: parts.trainable)


def _first(name: str, parts: Parts, _: float) -> Weighting:
    return first_steps(parse_weighting(name, parts.tasks), parts.tasks, lambda: parts.shared)


ARMS: dict[str, Arm] = {
    "equal": Arm("sum of the losses as they are", _sum),
    "equal-std": Arm("sum of the losses of standardised targets", _sum, power=1.0),
    "uw": Arm("UW, weights learned at rate .1", partial(_by_value, "uw", own_rate=0.1)),
    "uw-slow": Arm("UW, weights learned at the model's rate", partial(_by_value, "uw")),
    "gls": Arm("geometric mean of the losses", partial(_by_value, "gls")),
    "famo": Arm("FAMO", partial(_by_value, "famo")),
    "norm0": Arm("losses over their means of 10 steps", partial(_first, "norm0")),
    "autoscale": Arm("AutoScale: norms of 50 steps, frozen", partial(_first, "autoscale:50")),
    "gradnorm": Arm("GradNorm", partial(_by_gradient, "gradnorm")),
    "upgrad": Arm("UPGrad of torchjd", partial(_by_gradient, "torchjd:UPGrad")),
    "dbmtl": Arm("DB-MTL", partial(_by_gradient, "dbmtl")),
    "dao": Arm("`DAOLoss()`", _dao),
    "dao-10": Arm("norms every 10 steps", partial(_dao, refresh_every=10)),
    "dao-rep": Arm(
        "norms at the representation at every step, compared every 50",
        partial(_dao, source="rep", refresh_every=1, calibrate_every=50),
    ),
    "dao-1": Arm("norms at every step", partial(_dao, refresh_every=1)),
    "dao-paper": Arm("`DAOLoss.paper`", _paper),
    "dao-tasks": Arm('`total="tasks"`', partial(_dao, total="tasks")),
    "dao-unit": Arm('`total="unit"`', partial(_dao, total="unit")),
    "dao-1-unit": Arm('every step, `total="unit"`', partial(_dao, refresh_every=1, total="unit")),
    "power-.25": Arm("constants: variance ** -.25", _sum, power=0.25),
    "power-.5": Arm("constants: variance ** -.5", _sum, power=0.5),
    "power-.75": Arm("constants: variance ** -.75", _sum, power=0.75),
}
