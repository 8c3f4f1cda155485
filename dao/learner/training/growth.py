"""Dendrites during training: when a set is added, and what they came to in the end."""

from __future__ import annotations

from typing import Any

from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendrites import DendriteError
from dao.learner.training.state import State, copy_into

__all__ = ["dendrite_report", "grow"]


def grow(state: State, score: float, step: int) -> bool:
    """Report a validation to the dendrites; True if a set was added, or would have been."""
    if not state.dendrites:
        return step in state.plan.growths and _restart(state, step)
    growth = state.dendrites.validation(score, grow=step in state.plan.growths)
    if growth.restructured:
        state.renew_optimizer()
        if not growth.done:
            state.grown_at.append(step)
    return growth.restructured and not growth.done


def _restart(state: State, step: int) -> bool:
    """What a growth does beside growing: the best weights back, and a new optimizer."""
    copy_into(state.trainable(), state.best_tensors)
    state.renew_optimizer()
    state.grown_at.append(step)
    return True


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
    }
