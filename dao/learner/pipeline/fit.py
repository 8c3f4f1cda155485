"""From a prepared run to its selected model, with or without experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from dao.learner.experts.stages import fit_stages, steps_of_stages
from dao.learner.pipeline.prepare import Prepared
from dao.learner.training import loop
from dao.learner.training.loop import Fitted

__all__ = ["Trained", "fit"]


@dataclass(frozen=True)
class Trained:
    """The selected model, its dendrites taken off.

    Attributes:
        fitted: the model and how it came about; the skipped steps are those of all stages.
        experts: the content of experts.json, or None without experts.
        validation: the model's outputs for the validation rows, where training ended with them.
    """

    fitted: Fitted
    experts: dict[str, Any] | None = None
    validation: Mapping[str, Tensor] | None = None


def fit(prepared: Prepared) -> Trained:
    """Train: in stages where there are experts, in as many steps where an arm goes without them.

    Raises:
        UserError, DendriteError, KeyboardInterrupt: as `training.loop.fit` and `fit_stages`.
    """
    job, resume = prepared.job, prepared.inputs.resume
    if job.cfg.routed:
        return Trained(*fit_stages(job, resume=resume))
    if not job.cfg.experts.names:
        return Trained(loop.fit(job, resume=resume))
    steps = steps_of_stages(job)
    total = sum(steps.values())
    fitted = loop.fit(replace(job, steps=total), resume=resume)
    control = job.cfg.experts.control
    return Trained(fitted, {"control": control, "steps": total, "steps_of_stages": steps})
