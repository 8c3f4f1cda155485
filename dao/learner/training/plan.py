"""The timetable of a run: which step trains what, validates, grows; at which learning rate."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dao.errors import UserError
from dao.learner.batches.batching import epoch_batches, micro_batches
from dao.learner.batches.sampling import Draws, Labels, make_draws
from dao.learner.settings.config import Config

__all__ = ["Copied", "Plan", "Plateau", "make_plan"]


@dataclass(frozen=True)
class Copied:
    """When another run grew; validations are counted from 1.

    Attributes:
        growths: the validations after which it added a set of dendrites.
        ended: the validation after which growth was over and the best model was put back; None
            where growth was never over.
        validations: how many it had.
    """

    growths: tuple[int, ...]
    ended: int | None
    validations: int


@dataclass(frozen=True)
class Plateau:
    """Where `schedule: plateau` stands.

    Attributes:
        cuts: how often the rate was multiplied by `gamma`, since the last growth.
        since: validations since the best one, the last cut or the last growth.
    """

    cuts: int = 0
    since: int = 0

    def after(self, patience: int, *, better: bool, grown: bool) -> Plateau:
        """The same after another validation; the rule is that of torch's ReduceLROnPlateau.

        Args:
            patience: validations without a new best that may pass before a cut.
            better: whether this validation is a new best.
            grown: whether dendrites were added after it, or would have been.

        Example:
            >>> now = Plateau()
            >>> for better in (True, False, False, False, False):
            ...     now = now.after(2, better=better, grown=False)
            >>> now
            Plateau(cuts=1, since=1)
        """
        if grown:
            return Plateau()
        since = 0 if better else self.since + 1
        return Plateau(self.cuts + 1, 0) if since > patience else Plateau(self.cuts, since)


@dataclass(frozen=True)
class Plan:
    """The timetable of a run.

    A plan follows from the lengths and labels of the rows, the seed and the settings, and is the
    same for all weightings and dendrites. So every arm sees the same batches at the same learning
    rate, except for the short warm-up that follows a growth, and for the schedule `plateau`, where
    the rate follows the validations of the arm.

    Attributes:
        lengths: tokens of each training row.
        batch_size: rows of a batch.
        batch_tokens: most tokens of a batch; None where batches are cut by rows.
        seed: of the order of rows.
        steps: optimizer steps of each epoch; they differ where batches are cut by tokens.
        total: all steps, which are numbered from 1.
        warmup: steps over which the learning rate rises.
        validations: steps after which there is a validation.
        growths: steps after which dendrites grow.
        schedule: how the learning rate falls, see `rate`.
        step_size: epochs between two falls of the schedule `step`.
        gamma: the factor of each fall of the schedules `step` and `plateau`.
        rate_floor: share of the highest rate below which no schedule falls.
        accumulate: batches of an optimizer step; the last step of an epoch may have fewer.
        draws: which rows an epoch has; None where it has each row once.
        early_stopping: validations without a new best after which training ends; None: all epochs.
        ended: the step after which the best model is put back for good, as in the run whose growths
            are copied; None where there is no such step.
    """

    lengths: tuple[int, ...]
    batch_size: int
    batch_tokens: int | None
    seed: int
    steps: tuple[int, ...]
    total: int
    warmup: int
    validations: tuple[int, ...]
    growths: tuple[int, ...]
    schedule: str = "linear"
    step_size: int = 1
    gamma: float = 1.0
    rate_floor: float = 0.0
    accumulate: int = 1
    draws: Draws | None = None
    early_stopping: int | None = None
    ended: int | None = None

    def batches(self, done: int = 0) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """Step, epoch and row numbers of every step after the first `done` steps."""
        before = 0
        for epoch, steps in enumerate(self.steps):
            skipped = max(0, done - before)
            if skipped < steps:
                drawn = self.draws.rows(epoch) if self.draws else None
                batches = epoch_batches(
                    self.lengths, self.batch_size, self.seed, epoch, self.batch_tokens,
                    accumulate=self.accumulate, drawn=drawn,
                )  # fmt: skip
                for position in range(skipped, steps):
                    yield before + position + 1, epoch + 1, batches[position]
            before += steps

    def micro_batches(self, rows: Sequence[int]) -> list[tuple[int, ...]]:
        """The rows of a step, dealt out to the batches of the step."""
        return micro_batches(rows, self.lengths, self.batch_size, self.batch_tokens)

    def ends_epoch(self, step: int) -> bool:
        """Whether this step is the last of an epoch."""
        return step in accumulate(self.steps)

    def stops_after(self, step: int, best_step: int) -> bool:
        """Whether training ends early, after `early_stopping` validations without a new best.

        The answer follows from the two steps alone, so a resumed run stops where a run without
        interruption does.

        Args:
            step: the last one that is done.
            best_step: the step after which the best validation so far was made.
        """
        since = sum(best_step < validation <= step for validation in self.validations)
        return self.early_stopping is not None and since >= self.early_stopping

    def rate(self, step: int, grown_at: int | None = None, cuts: int = 0) -> float:
        """The factor on the learning rate of a step: a linear warm-up, then the schedule.

        After s of S steps, w of them warm-up: `linear` is 1 - (s - w) / (S - w), `cosine` is
        (1 + cos(pi (s - w) / (S - w))) / 2 (Loshchilov and Hutter 2017), `step` is gamma to the
        power of the number of whole `step_size` epochs that are over, `plateau` is gamma to the
        power of `cuts`, `constant` is 1. None of them falls below `rate_floor`.

        After a growth the optimizer starts anew, so the rate rises again over a third of the
        warm-up, towards the same schedule.

        Args:
            step: to be trained.
            grown_at: the step after which the last growth was; None before the first.
            cuts: with `schedule: plateau`, as `Plateau` counts them.
        """
        falling = max(self.rate_floor, self._falling(step, cuts))
        factor = min(1.0, falling, step / self.warmup if self.warmup else 1.0)
        if grown_at is not None and self.warmup:
            factor *= min(1.0, (step - grown_at) / max(1, self.warmup // 3))
        return factor

    def _falling(self, step: int, cuts: int) -> float:
        """The schedule without its warm-up; above 1 while the warm-up lasts."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "plateau":
            return self.gamma**cuts
        if self.schedule == "step":
            epochs_over = bisect.bisect_left(list(accumulate(self.steps)), step)
            return self.gamma ** (epochs_over // self.step_size)
        left = (self.total - step + 1) / max(1, self.total - self.warmup)
        return left if self.schedule == "linear" else (1 - math.cos(math.pi * min(1.0, left))) / 2


def make_plan(
    lengths: Sequence[int],
    cfg: Config,
    limit: int | None = None,
    validations: int | None = None,
    labels: Labels | None = None,
    copied: Copied | None = None,
) -> Plan:
    """The timetable for training rows of these lengths.

    Args:
        lengths: tokens of each training row.
        cfg: settings of the run.
        limit: number of steps, in as many epochs as they take; None: the steps of `train.epochs`.
        validations: their number, evenly spaced; None: `train.validations_per_epoch`.
        labels: which rows have a label of each task, for `train.sampling`; None: each row comes
            once per epoch.
        copied: growths of another run; they come after the validations of the same numbers.

    Raises:
        UserError: two growths, or a growth and the end, fall on the same validation; a run whose
            growths are copied had another number of validations; or a row does not fit into a
            batch.
    """
    lengths, train = tuple(lengths), cfg.train
    draws = None if labels is None else make_draws(labels, train.sampling, cfg.seed)
    steps = _steps(lengths, cfg, limit, draws)
    total = sum(steps)
    whole = steps if limit is None else steps[:-1] or steps  # a limit may cut the last epoch short
    each = len(steps) * min(train.validations_per_epoch, *whole)
    count = min(total, each if validations is None else validations)
    after = tuple(round(total * (i + 1) / count) for i in range(count))
    return Plan(
        lengths=lengths,
        batch_size=train.batch_size,
        batch_tokens=train.batch_tokens,
        seed=cfg.seed,
        steps=steps,
        total=total,
        warmup=round(train.warmup * total),
        validations=after,
        growths=_growths(cfg, after) if copied is None else _copied_growths(copied, after),
        ended=after[copied.ended - 1] if copied is not None and copied.ended else None,
        schedule=train.schedule,
        step_size=train.step_size,
        gamma=train.gamma,
        rate_floor=train.rate_floor,
        accumulate=train.accumulate,
        draws=draws,
        early_stopping=train.early_stopping,
    )


def _steps(
    lengths: Sequence[int], cfg: Config, limit: int | None, draws: Draws | None
) -> tuple[int, ...]:
    """The steps of each epoch. Batches that are cut by tokens have to be made to be counted."""
    size, tokens, accumulate = cfg.train.batch_size, cfg.train.batch_tokens, cfg.train.accumulate

    def of(epoch: int) -> int:
        if tokens is None:
            return -(-len(lengths) // (size * accumulate))
        drawn = draws.rows(epoch) if draws else None
        steps = epoch_batches(
            lengths, size, cfg.seed, epoch, tokens, accumulate=accumulate, drawn=drawn
        )
        return len(steps)

    if limit is None:
        return tuple(of(epoch) for epoch in range(cfg.train.epochs))
    found: list[int] = []
    while (left := limit - sum(found)) > 0:
        found.append(min(left, of(len(found))))
    return tuple(found)


def _growths(cfg: Config, validations: Sequence[int]) -> tuple[int, ...]:
    """The validations after which dendrites grow: for each point of time, the nearest one."""
    if not cfg.dendrites.enabled or cfg.dendrites.patience is not None:
        return ()
    total = validations[-1]
    # Dendrites that grew after the last validation would have no step left to be trained in.
    early = validations[:-1] or validations
    points = [point * total for point in cfg.dendrites.grow_at]
    growths = tuple(min(early, key=lambda v: abs(v - point)) for point in points)
    if len(set(growths)) < len(growths) or total in growths:
        raise UserError(
            f"`dendrites.grow_at` should leave training between growths and before the end. Found "
            f"{list(cfg.dendrites.grow_at)} with validations after steps {list(validations)}. "
            f"Spread the points, or raise train.validations_per_epoch or train.epochs."
        )
    return growths


def _copied_growths(copied: Copied, validations: Sequence[int]) -> tuple[int, ...]:
    """The steps after which growths come, at the validations after which they came elsewhere."""
    if copied.validations != len(validations):
        raise UserError(
            f"`dendrites.growths_of` should be a run of as many validations. Found "
            f"{copied.validations} there and {len(validations)} here. Give train.epochs and "
            f"train.validations_per_epoch the values of that run."
        )
    return tuple(validations[number - 1] for number in copied.growths)
