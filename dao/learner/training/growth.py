"""Dendrites during training: growth after a validation, and the report at the end."""

from __future__ import annotations

from typing import Any

from dao.learner.dendrites import dendritic
from dao.learner.dendrites.dendrites import DendriteError
from dao.learner.training.state import State, copy_into

__all__ = ["dendrite_report", "grow"]


def grow(state: State, score: float, step: int) -> bool:
    """Let dendrites grow after a validation, where it is time.

    Without dendrites, as in the arms `restart` and `capacity`, the run restarts instead.

    Args:
        state: of the run, changed in place.
        score: of the validation.
        step: after which it was made.

    Returns:
        Whether a set was added, or the run restarted in place of that.
    """
    grows, ends = step in state.plan.growths, step == state.plan.ended
    if state.dendrites:
        growth = state.dendrites.validation(score, grow=grows, end=ends)
        if not growth.restructured:
            return False
        ends = growth.done
    elif grows or ends:  # what a growth does beside adding a set
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
        DendriteError: no dendrite was added, or none received a gradient; or a sham dendrite
            changed the output of its layer.
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
