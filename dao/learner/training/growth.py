"""Dendrites during training: when a set is added, and what they came to in the end."""

from __future__ import annotations

from typing import Any

from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendrites import DendriteError
from dao.learner.training.state import State, copy_into

__all__ = ["dendrite_report", "grow"]


def grow(state: State, score: float, step: int) -> bool:
    """Report a validation to the dendrites; True if a set was added, or would have been."""
    grows, ends = step in state.plan.growths, step == state.plan.ended
    if state.dendrites:
        growth = state.dendrites.validation(score, grow=grows, end=ends)
        if not growth.restructured:
            return False
        ends = growth.done
    elif grows or ends:  # what a growth does beside growing
        copy_into(state.trainable(), state.best_tensors)
    else:
        return False
    state.renew_optimizer()
    state.thrown_away += step - state.best["step"]
    if ends:
        state.ended_at = step
    else:
        state.grown_at.append(step)
    return not ends


def dendrite_report(state: State) -> dict[str, Any] | None:
    """The content of dendrites.json; None where no dendrites were asked for.

    Raises:
        DendriteError: none was added, or none received a gradient; or a sham one changed something.
    """
    if state.dendrites is None:
        return None
    cfg, report = state.cfg.dendrites, state.dendrites.report()
    sham = cfg.control == "sham"
    if not report["dendrites_added"] or not (report["received_gradient"] or sham):
        raise DendriteError(
            f"Dendrites were asked for, but {report['dendrites_added']} were added and "
            f"{report['received_gradient']} received a gradient. Nothing was measured."
        )
    if sham:
        state.dendrites.check_sham()
    description = state.best["description"]
    kept = dendritic.split(state.best_tensors, description)[1].values()
    return {
        **report,
        "control": cfg.control,
        "lr": cfg.lr,
        "weight_decay": cfg.weight_decay,
        "dendrites_kept": max(description["dendrites"].values(), default=0),
        "parameters_kept": sum(tensor.numel() for tensor in kept),
        "epochs_run": state.cfg.train.epochs,
        "growth_steps": state.grown_at,
        "growths_of": cfg.growths_of or None,
    }
