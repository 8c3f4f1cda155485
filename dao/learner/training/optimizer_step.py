"""One optimizer step: forward, losses, weights, backward, update; over all ranks."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from dao.learner.batches.batching import Batch, collate, fingerprint
from dao.learner.processes import ranks
from dao.learner.training.job import ROW_EXPERT
from dao.learner.training.state import State
from dao.learner.training.step import StepRecord, parts_of, router_losses, task_losses

__all__ = ["batch_losses", "train_step"]

Rows = tuple[int, ...]


def train_step(state: State, step: int, epoch: int, rows: Rows) -> None:
    """Train the batches of one step, and give its figures to the history.

    Each rank takes its share of every batch. Losses, gradients and the row of the history are those
    of the whole batch. A step that is left out leaves the weights, and the state of the weighting,
    as they were.

    Args:
        state: of the run, changed in place.
        step: number of the step, from 1.
        epoch: number of the epoch, from 1.
        rows: numbers of the training rows of this step.
    """
    history = state.log.history
    history.begin()
    ranks.seed_step(state.cfg.seed, step)
    rate = _set_rate(state, step)
    state.model.train()
    before = copy.deepcopy(state.weighting.state_dict()) if state.log.skips else {}
    done = StepRecord()
    parts = state.plan.micro_batches(rows)
    finite = all(_add_batch(state, step, epoch, (rows, some), done) for some in parts)
    if not finite or not _clip(state, step, epoch, rows, done):
        state.optimizer.zero_grad()
        state.weighting.load_state_dict(before)
        history.drop(step)
        return
    _update(state, rows)
    row = {
        "step": step,
        "epoch": epoch,
        "batch": fingerprint(rows),
        "rows": len(rows),
        "tokens": sum(state.plan.lengths[row] for row in rows),
        "lr": rate,
        "measured": done.measured,
    }
    history.add(row, done.loss, done.tasks, rows, done.router)


def batch_losses(state: State, batch: Batch, rows: Rows) -> dict[str, Tensor | None]:
    """The loss of each task on this rank's `batch`; its mean over all ranks is that of `rows`."""
    outputs = state.parallel(
        batch.input_ids,
        batch.attention_mask,
        tap=state.weighting.tap,
        segments=batch.segments,
        prefix=batch.prefix,
    )
    factors = {name: state.cfg.tasks[name].loss_factor for name in state.tasks}
    losses = task_losses(state.tasks, outputs, batch, state.row_weights, factors)
    if ranks.several():
        parts = parts_of(state.row_weights, rows, ranks.share(rows))
        losses = ranks.of_whole_batch(losses, outputs, parts)
    return losses


def _set_rate(state: State, step: int) -> float:
    """Give the optimizer the learning rate of the step."""
    grown_at = max(state.grown_at, default=None)
    rate = state.cfg.train.lr * state.plan.rate(step, grown_at, state.plateau.cuts)
    if grown_at is not None and (times := state.cfg.dendrites.restart_lr) != 1.0:
        rate *= times
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("times", 1.0)  # a group of an earlier checkpoint lacks it
    return rate


def _add_batch(
    state: State, step: int, epoch: int, of: tuple[Rows, Rows], done: StepRecord
) -> bool:
    """Add a batch's gradients to those of the other batches of its step.

    Args:
        state: of the run.
        step: number of the step.
        epoch: number of the epoch.
        of: all rows of the step, and those of the batch.
        done: the record of the step, which takes the batch up.

    Returns:
        Whether the step goes on; False where it is left out.
    """
    rows, some = of
    batch, history = _batch(state, some), state.log.history
    losses = batch_losses(state, batch, some)
    named = {f"The loss of `{n}`": loss for n, loss in losses.items() if loss is not None}
    router = _router(state, batch, len(some) / len(rows))
    named |= {"The loss of the router": router["loss"]} if router else {}
    if not state.log.goes_on(step, epoch, named, some):
        return False
    if ranks.several():
        history.check()  # the others would wait for a rank that leaves a broken loss out
    if state.weighting.is_due(losses):
        history.flush()  # here, because a measurement waits for the device anyway
    parts = {} if some == rows else parts_of(state.row_weights, rows, some)
    loss = state.weighting.accumulate(losses, parts)
    if router:  # after the tasks, whose weighting may set gradients instead of adding to them
        torch.autograd.backward(router["loss"])
        loss = loss + router["loss"].detach()
    done.add(loss, state.weighting, parts, router)
    return True


def _batch(state: State, rows: Rows) -> Batch:
    """This rank's share of the rows."""
    # A rank without a row of its own computes the first row of all, whose weight is then zero.
    own = ranks.share(rows) or rows[:1]
    job = state.job
    return collate(job.train, own, job.pad, state.model.device, job.line_limit)


def _router(state: State, batch: Batch, part: float) -> dict[str, Tensor]:
    """The loss of a router that trains, and its parts; empty where no router trains."""
    if not state.job.router:
        return {}
    assert state.model.experts is not None
    return router_losses(state.model.experts, state.cfg.experts, batch.targets[ROW_EXPERT], part)


def _clip(state: State, step: int, epoch: int, rows: Rows, done: StepRecord) -> bool:
    """Scale the step's gradient down where it is too large; False if the step is left out."""
    if ranks.several():
        _clear_absent(state, rows)
    broken = {f"The gradient of `{n}`": torch.tensor(math.nan) for n in done.broken}
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, state.cfg.train.clip)
    return state.log.goes_on(step, epoch, {**broken, "The gradient": norm}, rows)


def _clear_absent(state: State, rows: Rows) -> None:
    """Remove the zero gradients of heads whose task has no label here: AdamW then skips them."""
    for name in state.tasks.keys() - parts_of(state.row_weights, rows, rows).keys():
        state.model.heads[name].zero_grad()


def _update(state: State, rows: Rows) -> None:
    """Move the weights along the gradient, and tell weighting and dendrites of the step's end."""
    state.weighting.end_step()
    if state.dendrites:
        state.dendrites.record_gradients()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.weighting.after_step(lambda: batch_losses(state, _batch(state, rows), rows))
