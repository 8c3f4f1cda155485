"""The timetable of a run: which step trains what, validates, grows; at which learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dao.errors import UserError
from dao.learner.batching import epoch_batches
from dao.learner.config import Config

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Steps are numbered from 1; an entry of `validations` or `growths` comes after that step.

    Everything follows from the data's lengths, the seed and the settings, and neither weighting
    nor dendrites change it: every arm sees the same batches at the same learning rate, except
    for the short warm-up that follows a growth.
    """

    lengths: tuple[int, ...]
    batch_size: int
    seed: int
    steps_per_epoch: int
    total: int
    warmup: int
    validations: tuple[int, ...]
    growths: tuple[int, ...]

    def batches(self, done: int = 0) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """(step, epoch, rows) for every step after the first `done`."""
        for step in range(done + 1, self.total + 1):
            epoch, position = divmod(step - 1, self.steps_per_epoch)
            yield step, epoch + 1, self._epoch(epoch)[position]

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch's last batch is trained in this step."""
        return step % self.steps_per_epoch == 0

    def _epoch(self, epoch: int) -> list[tuple[int, ...]]:
        return _epoch_batches(self.lengths, self.batch_size, self.seed, epoch)

    def rate(self, step: int, grown_at: int | None = None) -> float:
        """Factor on the learning rate: linear warm-up, then linear decay to 0 after the last step.

        After a growth the optimizer starts anew, so the rate rises again over a third of the
        warm-up, towards the same decay.
        """
        decay = (self.total - step + 1) / max(1, self.total - self.warmup)
        factor = min(1.0, decay, step / self.warmup if self.warmup else 1.0)
        if grown_at is not None and self.warmup:
            factor *= min(1.0, (step - grown_at) / max(1, self.warmup // 3))
        return factor


@lru_cache(maxsize=2)
def _epoch_batches(
    lengths: tuple[int, ...], batch_size: int, seed: int, epoch: int
) -> list[tuple[int, ...]]:
    return epoch_batches(lengths, batch_size, seed, epoch)


def make_plan(lengths: Sequence[int], cfg: Config) -> Plan:
    """The timetable for training rows of these lengths.

    Raises:
        UserError: two growths, or a growth and the end, fall on the same validation.
    """
    size = cfg.train.batch_size
    per_epoch = len(epoch_batches(lengths, size, cfg.seed, 0))
    total = per_epoch * cfg.train.epochs
    count = cfg.train.epochs * min(cfg.train.validations_per_epoch, per_epoch)
    validations = tuple(round(total * (i + 1) / count) for i in range(count))
    points = [point * total for point in _growth_points(cfg)]
    # Never after the last validation: what grew there would not be trained.
    early = validations[:-1] or validations
    growths = tuple(min(early, key=lambda v: abs(v - point)) for point in points)
    if len(set(growths)) < len(growths) or total in growths:
        raise UserError(
            f"`dendrites.grow_at` should leave training between growths and before the end. Found "
            f"{list(cfg.dendrites.grow_at)} with validations after steps {list(validations)}. "
            f"Spread the points, or raise train.validations_per_epoch or train.epochs."
        )
    warmup = round(cfg.train.warmup * total)
    return Plan(tuple(lengths), size, cfg.seed, per_epoch, total, warmup, validations, growths)


def _growth_points(cfg: Config) -> tuple[float, ...]:
    fixed = cfg.dendrites.enabled and cfg.dendrites.patience is None
    return cfg.dendrites.grow_at if fixed else ()
