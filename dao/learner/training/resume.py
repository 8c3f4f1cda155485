"""Saving and restoring checkpoints, which hold all that the next step depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.processes import ranks
from dao.learner.settings.decisive import check_settings, completed, decisive
from dao.learner.storage.checkpoint import ADVICE, check_fit, check_optimizer, load_checkpoint
from dao.learner.training.parameter_groups import in_order
from dao.learner.training.plan import Plateau
from dao.learner.training.state import State, copy_into

__all__ = ["restore", "save"]

WEIGHTS = "model"
BEST = "best"
NEEDED = ("grown_at", "best", "events", "seconds", "settings")


def save(state: State, step: int) -> None:
    """Write a checkpoint after a step.

    Raises:
        UserError: a weight is not finite; the checkpoint before this one is kept.
    """
    state.log.history.flush()
    facts = {
        "step": step,
        "grown_at": state.grown_at,
        "growths": _growths(state),
        "ended_at": state.ended_at,
        "thrown_away": state.thrown_away,
        "best": state.best,
        "plateau": asdict(state.plateau),
        "events": state.dendrites.events if state.dendrites else [],
        "seconds": state.seconds(),
        "settings": decisive(state.cfg),
    }
    weights = {n: p.detach() for n, p in state.trainable().items()}
    for name, weight in weights.items():  # with such weights, the run could not go on
        if not torch.isfinite(weight).all():
            raise state.log.diverged(f"The weight {name}", math.nan, step)
    tensors = {WEIGHTS: weights, **({BEST: state.best_tensors} if state.best_tensors else {})}
    # Several ranks are seeded anew at every step, and so need no state of their generators.
    random_cuda = torch.cuda.is_available() and not ranks.several()
    optimizer = {
        "optimizer": state.optimizer.state_dict(),
        "weighting": state.weighting.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if random_cuda else [],
    }
    files = tuple(state.dendrites.files()) if state.dendrites else ()
    state.job.folder.save_checkpoint(facts, tensors, optimizer, files)


def restore(state: State) -> int:
    """Bring a run into the state of its latest checkpoint.

    Returns:
        The number of steps that are done.

    Raises:
        UserError: there is no checkpoint, or it is damaged, or was saved with other settings.
    """
    folder = state.job.folder
    place = folder.latest_checkpoint()
    facts, tensors, saved = load_checkpoint(place, NEEDED)
    check_settings(completed(facts["settings"]), decisive(state.cfg))
    _check_growths(facts.get("growths"), state)
    if state.dendrites:
        state.dendrites.replay(facts["events"])
        folder.put_back(state.dendrites.files())
    state.grown_at = facts["grown_at"]
    state.ended_at = facts.get("ended_at")
    state.thrown_away = facts.get("thrown_away", 0)
    state.plateau = Plateau(**facts.get("plateau", {}))  # earlier checkpoints have none
    state.seconds_before = facts["seconds"]
    state.best, state.best_tensors = facts["best"], tensors.get(BEST, {})
    trainable = state.trainable()
    shapes = {name: tuple(parameter.shape) for name, parameter in trainable.items()}
    check_fit(tensors.get(WEIGHTS, {}), shapes, place / f"{WEIGHTS}.safetensors", ADVICE)
    copy_into(trainable, tensors[WEIGHTS])
    _restore_optimizer(state, saved, place)
    state.log.resume(facts["step"])
    return int(facts["step"])


def _check_growths(began_with: list[int] | None, state: State) -> None:
    """Refuse a run that copies the growths of another, which has others now."""
    if state.job.copied is not None and began_with != (now := _growths(state)):
        raise UserError(
            f"A run should be resumed with the growths it began with, after steps {began_with}. "
            f"Found that {state.cfg.dendrites.growths_of} has them after {now}. Start again with "
            f"--overwrite."
        )


def _growths(state: State) -> list[int]:
    """Steps of the growths; with copied growths, also the step after which they were over."""
    ended = state.plan.ended
    return [*state.plan.growths, *([] if ended is None else [ended])]


def _restore_optimizer(state: State, saved: Mapping[str, Any], place: Path) -> None:
    """Build the optimizer with its saved moments; restore the weighting and random generators."""
    state.renew_optimizer()
    counted = in_order(state.optimizer.param_groups, state.trainable().items())
    check_optimizer(saved["optimizer"], counted, place)
    state.optimizer.load_state_dict(saved["optimizer"])
    try:
        state.weighting.load_state_dict(saved["weighting"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error)
        raise UserError(f"The weighting in {place} should fit. Found: {reason}.") from None
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"] and not ranks.several():
        torch.cuda.set_rng_state_all(saved["random_cuda"])
