"""The loop of `fit`: train, validate, grow, keep the best model, save checkpoints, resume."""

from __future__ import annotations

from dao.learner.dendrites import dendritic
from dao.learner.processes import ranks
from dao.learner.processes.interrupt import deferred_interrupt
from dao.learner.storage.history import NonFiniteError
from dao.learner.training import resume as checkpoints
from dao.learner.training.growth import dendrite_report
from dao.learner.training.job import ROW_EXPERT, Fitted, Job, Progress
from dao.learner.training.optimizer_step import train_step
from dao.learner.training.state import State
from dao.learner.training.validation import validate

__all__ = ["ROW_EXPERT", "Fitted", "Job", "Progress", "fit"]


def fit(job: Job, *, resume: bool = False) -> Fitted:
    """Train the model, select on validation, and leave the record in the run folder.

    Args:
        job: the model, its data, settings and folder.
        resume: continue after the latest checkpoint. The result is the same to the bit as without
            the stop. With another number of ranks, or with three or more, which add up gradients in
            no fixed order, it is the same but for rounding (and for LoRA dropout).

    Raises:
        UserError: a loss or an output is no longer finite; the settings leave no room for growth,
            or are not those of the checkpoint; the encoder cannot keep packed rows apart.
        DendriteError: dendrites were asked for and none was added or none received a gradient.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
    """
    state = State(job)
    done = checkpoints.restore(state) if resume else 0
    with deferred_interrupt() as interrupted:
        try:
            for step, epoch, rows in state.plan.batches(done):
                if stops_after(state, done):  # asked first: a resumption may begin at the end
                    break
                train_step(state, step, epoch, rows)
                if state.plan.ends_epoch(step):
                    state.weighting.end_epoch()
                if step in state.plan.validations:
                    validate(state, step, epoch)
                stop = interrupted()
                if stop or saves_after(state, step):
                    checkpoints.save(state, step)
                if stop:
                    raise KeyboardInterrupt
                done = step
        except NonFiniteError as found:
            raise state.log.diverged(found.what, found.value, found.step, found.rows) from None
    return finish(state, done)


def stops_after(state: State, step: int) -> bool:
    """Whether training ends after this step, before all epochs are over.

    All ranks follow the first one: a rank that went on alone would wait for the others.
    """
    plan = state.plan
    if plan.early_stopping is None or step not in plan.validations:
        return False
    return ranks.gather(plan.stops_after(step, state.best.get("step", 0)))[0]


def saves_after(state: State, step: int) -> bool:
    """Whether a checkpoint is saved after this step."""
    return step in state.plan.validations or step % state.cfg.train.checkpoint_every == 0


def finish(state: State, done: int) -> Fitted:
    """Put the selected weights into the model, and take its dendrites off.

    Args:
        state: of the run after its last step.
        done: number of steps.
    """
    seconds, report = state.seconds(), dendrite_report(state)
    if state.dendrites:
        if state.cfg.dendrites.graph:
            state.dendrites.graph()
        state.dendrites.detach()
    description = state.best["description"]
    plain, dendrites = dendritic.split(state.best_tensors, description)
    dendritic.load(state.model, plain)
    return Fitted(
        model=state.model,
        description=description,
        dendrites=dendrites,
        report=report,
        steps=done,
        best_step=state.best["step"],
        restarts=state.grown_at,
        seconds=seconds,
        ended=state.ended_at,
        thrown_away=state.thrown_away,
        planned=state.plan.total if done < state.plan.total else None,
        skipped=state.log.skipped,
        weights={t: state.log.weights[t] for t in state.tasks if t in state.log.weights},
    )
