"""A validation: measure, keep the best model, grow dendrites where it is time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dao.learner.processes import ranks
from dao.learner.scoring.scoring import measure, predict, selection_score
from dao.learner.training.growth import grow
from dao.learner.training.state import State

__all__ = ["validate"]

NO_DENDRITES = {"activation": "sigmoid", "dendrites": {}}


def validate(state: State, step: int, epoch: int) -> None:
    """Measure on validation, keep the model if it is the best so far, and grow where it is time.

    Raises:
        UserError: an output is not finite; or no task has a figure to select by.
    """
    state.log.history.flush()
    outputs = predict(state.model, state.job.validation, state.job.pad, shared=True)
    for task, values in outputs.items():
        if not torch.isfinite(values).all():
            raise state.log.diverged(f"Every output of `{task}`", math.nan, step)
    figures = measure(state.tasks, outputs, state.job.validation.targets)
    score = selection_score(state.tasks, figures, state.cfg.train.select_weights)
    better = score > state.best["score"]
    if better or not state.job.selects:
        _keep(state, score, step)
    grown = grow(state, score, step)
    # All ranks as the first one does: they would not wait for each other at another rate.
    first = ranks.gather(better)[0] if state.plan.schedule == "plateau" else better
    state.plateau = state.plateau.after(state.cfg.train.plateau, better=first, grown=grown)
    row = {
        "step": step,
        "epoch": epoch,
        "score": score,
        "best": better,
        "grown": grown,
        "metrics": {task: _numbers(values) for task, values in figures.items()},
    }
    state.job.folder.append("validation.jsonl", row)
    state.job.progress.validation(row)


def _keep(state: State, score: float, step: int) -> None:
    """Keep the model as it is now; without selection this may be one with a lower score."""
    description, state.best_tensors = _snapshot(state)
    highest = max(score, state.best["score"])
    state.best = {"score": highest, "step": step, "description": description}


def _snapshot(state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The structure of the dendrites, and all trained weights."""
    if state.dendrites:
        return state.dendrites.twin_state()
    return NO_DENDRITES, {n: p.detach().cpu().clone() for n, p in state.trainable().items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in values.items() if isinstance(v, int | float)}
