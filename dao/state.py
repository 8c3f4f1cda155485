"""What :class:`dao.DAOLoss` remembers between steps."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.notices import (
    PLACES,
    START,
    Seen,
    broken,
    drifted,
    far_from_mean,
    one_by_one,
    silent,
    warn,
)
from dao.running_mean import blend, mean_where
from dao.schedule import MeasuringPlan, credits, spent

__all__ = ["RunningNorms"]

DOUBT = 4
"""How many comparisons of its own a task needs before its offset counts as much as the mean of all
tasks' offsets: chosen by `benchmarks.accuracy` between 1, 4 and 10."""

_VERSION = 1
_LATER = {"credit": 0.0, "log_loss": -math.inf, "log_start": math.nan}


class RunningNorms(nn.Module):
    r"""Smoothed log gradient norms of named tasks, entirely in buffers.

    The running mean of the n-th measurement of :math:`x = \log n_k` is

    .. math:: s \leftarrow s + \max(1 - b, 1 / n) (x - s)

    a plain mean while it is young and an exponential one with factor ``b`` later, so the first
    measurement has no privilege.

    Floating buffers stay float64 whatever type the parent model is cast to: bfloat16 cannot hold a
    mean that moves by less than 1 %. States load by task name, in any order.

    Attributes:
        log_ema: Running means, shape ``(K,)``.
        count: Measurements taken, ``(K,)``.
        log_used: The means in force, calibrated; frozen within an optimizer step, ``(K,)``.
        in_force: Measurements those rest on, ``(K,)``.
        offset: Mean log ratio of the full norm to the cheap one, ``(K,)``.
        offset_count: Comparisons taken, ``(K,)``.
        norm: Last measured norms, NaN before the first, ``(K,)``.
        prior: What tasks are worth, ``(K,)``; a setting, but saved with the rest.
        turns: Training calls that had the task, ``(K,)``.
        dropped: How often a task's loss or gradient was NaN or infinite, ``(K,)``.
        credit: How near a task is to its turn, where tasks are measured in turn, ``(K,)``.
        log_loss: Log of a task's first loss there, from which the norm of a task that still waits
            is guessed; minus infinity where there is none, ``(K,)``.
        log_start: The running mean after the first few measurements, from which a warning counts
            how far weights have moved; NaN before, ``(K,)``.
        step: Training calls in all.
        alpha: How far weights follow norms, for the warning of weights that have moved far; not
            part of the state.
        doubt: Comparisons that the mean of all tasks' offsets counts as, in the offset of one; not
            part of the state.

    Example:
        >>> import torch
        >>> state = RunningNorms(["cls", "reg"], ema=0.9, prior=[1.0, 1.0])
        >>> broken = state.observe({"cls": torch.tensor(1.0)})
        >>> broken = state.observe({"cls": torch.tensor(4.0)})
        >>> state.log_ema.exp()  # the geometric mean of 1 and 4; nothing known of "reg"
        tensor([2., 1.], dtype=torch.float64)
    """

    log_ema: Tensor
    count: Tensor
    log_used: Tensor
    in_force: Tensor
    offset: Tensor
    offset_count: Tensor
    norm: Tensor
    prior: Tensor
    turns: Tensor
    dropped: Tensor
    credit: Tensor
    log_loss: Tensor
    log_start: Tensor
    step: Tensor

    def __init__(self, tasks: Sequence[str], *, ema: float, prior: Sequence[float]) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self._index = {task: place for place, task in enumerate(tasks)}
        self.ema = ema
        self.alpha = 0.0
        self.doubt = 0
        self._prior = tuple(prior)
        self._replaced = False
        self._told: set[tuple[str, str]] = set()
        size = len(self.tasks)
        for name in ("log_ema", "log_used", "offset", "norm", "credit", "log_loss", "log_start"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        for name in ("count", "in_force", "offset_count", "turns", "dropped"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.long))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("prior", torch.tensor(prior, dtype=torch.float64))
        self.reset()

    def reset(self) -> None:
        """Forgets everything measured; keeps the priors."""
        for name, buffer in self.named_buffers():
            if name != "prior":
                buffer.zero_()
        self.norm.fill_(torch.nan)
        self.log_start.fill_(torch.nan)
        self.log_loss.fill_(-torch.inf)

    def ensure(self) -> None:
        """Starts afresh where a loader has put uninitialised memory in place of the buffers.

        Hugging Face's ``from_pretrained`` does so with what a checkpoint lacks, for example with
        all of this when the encoder alone was saved.
        """
        if self._replaced:
            self._replaced = False
            self.log_start.fill_(torch.nan)  # a state of before may lack it: counted from now
            if not _plausible(dict(self.named_buffers())):
                self._start()

    def _start(self) -> None:
        self.reset()
        self.prior.copy_(torch.tensor(self._prior, dtype=torch.float64))

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        buffer = self.__dict__.get("_buffers", {}).get(name)
        if isinstance(value, Tensor) and buffer is not None and value is not buffer:
            self._replaced = True
            value = value.to(buffer.dtype)
        super().__setattr__(name, value)

    def observe(
        self,
        norms: Mapping[str, Tensor],
        reaches: Callable[[str], bool] = lambda _: True,
        place: str = PLACES["params"],
    ) -> list[str]:
        """Takes in measured norms by task, except 0, NaN and infinity; returns the last two.

        Args:
            norms: Float64 scalars.
            reaches: Whether a task's loss depends on what the norms are taken over; asked for
                a norm of zero as long as the task was never warned of.
            place: What the norms are taken over, in words.
        """
        if not norms:
            return []
        found = self._row(norms)
        self.norm.copy_(torch.where(found.isfinite(), found, self.norm))
        blend(self.log_ema, self.count, found.log(), self.ema)
        begins = self.log_start.isnan() & (self.count >= START)
        self.log_start.copy_(torch.where(begins, self.log_ema, self.log_start))
        # One synchronisation for all that is looked at.
        columns = (found, self.log_ema, self.count, self.turns, self.log_start)
        table = torch.stack([column.to(found) for column in columns], dim=1).tolist()
        rows = {task: Seen(*row) for task, row in zip(self.tasks, table, strict=True)}
        seen = {task: row for task, row in rows.items() if task in norms}
        zero = [t for t, row in seen.items() if row.norm == 0 and not self.has_told("silent", t)]
        self.tell("silent", silent(seen, [t for t in zero if not reaches(t)], place))
        self.tell("far", far_from_mean(seen, self.ema))
        jumped = [task for task in rows if self.has_told("far", task)]
        self.tell("drift", {t: s for t, s in drifted(rows, self.alpha).items() if t not in jumped})
        return [task for task, row in seen.items() if not math.isfinite(row.norm)]

    def tell(self, kind: str, said: Mapping[str, str]) -> None:
        """Warns of each task, or other subject, once per kind of trouble."""
        for subject, text in said.items():
            if not self.has_told(kind, subject):
                self._told.add((kind, subject))
                warn(text)

    def has_told(self, kind: str, subject: str = "") -> bool:
        """Whether this was warned of."""
        return (kind, subject) in self._told

    def calibrate(self, full: Mapping[str, Tensor], cheap: Mapping[str, Tensor]) -> None:
        """Takes in one comparison of the norm over all parameters with the cheap one."""
        ratio = self._row(full).log() - self._row(cheap).log()
        blend(self.offset, self.offset_count, ratio, self.ema)

    def drop(self, tasks: Sequence[str]) -> None:
        """Counts tasks whose loss or gradient was NaN or infinite, and warns the first time."""
        if not tasks:
            return
        self.tell("broken", {"": broken(tasks)})
        self.dropped += torch.tensor([t in tasks for t in self.tasks]).to(self.dropped)

    def positions(self, tasks: Iterable[str]) -> list[int]:
        """Where these tasks stand in every buffer."""
        return [self._index[task] for task in tasks]

    def turns_of(self, present: Sequence[str]) -> dict[str, int]:
        """Training calls so far that had each of these tasks."""
        wanted = set(present)
        turns = zip(self.tasks, self.turns.tolist(), strict=True)
        return {task: count for task, count in turns if task in wanted}

    def tick(self, present: Sequence[str]) -> int:
        """Counts one training call; returns how many there were before it."""
        step, there = int(self.step), set(present)
        self.turns += torch.tensor([task in there for task in self.tasks]).to(self.turns)
        self.step += 1
        return step

    def put_in_force(self, *, everything: bool) -> None:
        """Lets weights follow what was measured: all, or those of tasks without a value yet."""
        chosen = (self.in_force == 0) | everything
        self.log_used.copy_(torch.where(chosen, self.log_ema + self.offsets(), self.log_used))
        self.in_force.copy_(torch.where(chosen, self.count, self.in_force))

    def offsets(self) -> Tensor:
        """Offsets in use, ``(K,)``: those measured, or with `doubt` drawn to their mean.

        One comparison is as noisy as offsets differ; a task without any has the mean.
        """
        if self.doubt == 0:
            return self.offset
        mean = mean_where(self.offset_count > 0, self.offset)
        trust = self.offset_count.double() / (self.offset_count + self.doubt)
        return mean + trust * (self.offset - mean)

    def credit_of(self, present: Sequence[str]) -> dict[str, float]:
        """How near each of these tasks is to its turn; see :func:`dao.schedule.credits`."""
        kept = dict(zip(self.tasks, self.credit.tolist(), strict=True))
        return credits(self.turns_of(self.tasks), kept, present)

    def take_turns(
        self, plan: MeasuringPlan, values: Mapping[str, Tensor], accumulate: int
    ) -> None:
        """Books the turns of a call; the last one of a task's optimizer step pays. Before `tick`.

        Args:
            plan: What goes round, and how fast.
            values: The losses of the call, float64 scalars.
            accumulate: Calls per step.
        """
        if not plan.gap or not values:
            return
        turns = self.turns_of(list(values))
        if plan.taken_in_turn:
            self.tell("in turn", one_by_one(self.tasks, plan.source, plan.gap))
            if new := [task for task, count in turns.items() if count == 0]:
                logs = self._row({task: values[task] for task in new}).log()
                self.log_loss.copy_(torch.where(logs.isfinite(), logs, self.log_loss))
        self.doubt = 0 if plan.taken_in_turn else DOUBT
        credit = self.credit_of(list(values))
        after = spent(credit, plan.gap)
        credit |= {t: after[t] for t, count in turns.items() if (count + 1) % accumulate == 0}
        kept = [credit.get(t, old) for t, old in zip(self.tasks, self.credit.tolist(), strict=True)]
        self.credit.copy_(torch.tensor(kept, dtype=torch.float64))

    def log_norms(self) -> Tensor:
        """Log norms in force, ``(K,)``.

        A task not yet measured counts as average; or, where its first loss is known, its norm
        relates to this loss as, in the mean, the others' do to theirs.
        """
        seen = self.in_force > 0
        average = mean_where(seen, self.log_used)
        known = torch.where(seen, self.log_used, average)
        both = seen & self.log_loss.isfinite()
        guess = self.log_loss + mean_where(both, self.log_used - self.log_loss)
        waits = ~seen & self.norm.isnan() & self.log_loss.isfinite() & both.any()
        return torch.where(waits, guess, known)

    def get_extra_state(self) -> Tensor:
        """Version and task names as bytes: safetensors and weights-only loading take tensors."""
        text = json.dumps({"version": _VERSION, "tasks": self.tasks})
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to set: the names were compared before any buffer was touched."""

    def _row(self, norms: Mapping[str, Tensor]) -> Tensor:
        blank = torch.full((), torch.nan, dtype=torch.float64)
        return torch.stack([norms.get(task, blank).to(self.norm) for task in self.tasks])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(moved.device)
        if before["prior"].is_meta and not self.prior.is_meta:
            self._start()  # that device keeps no numbers
        return self

    def _save_to_state_dict(self, *given: Any) -> None:  # noqa: ANN401
        self.ensure()
        super()._save_to_state_dict(*given)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: object) -> None:
        extra = state_dict.get(prefix + "_extra_state")
        if extra is not None:
            for name, blank in _LATER.items():  # written before these were kept
                state_dict.setdefault(prefix + name, torch.full_like(self.norm, blank))
            order = self._positions(json.loads(bytes(extra.tolist())))
            for name, buffer in self.named_buffers():
                saved = state_dict.get(prefix + name)
                if saved is not None and buffer.ndim == 1:
                    state_dict[prefix + name] = saved[order]
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _positions(self, saved: dict[str, Any]) -> list[int]:
        """Where each task stands in a saved state."""
        if saved["version"] != _VERSION:
            raise UserError(
                f"The saved state should have version {_VERSION}. Found {saved['version']}. "
                "Load it with the release of dao that wrote it."
            )
        if sorted(saved["tasks"]) != sorted(self.tasks):
            raise UserError(
                f"The saved state should be for the tasks {self.tasks}. Found {saved['tasks']}. "
                "Build the loss with the saved names, or start without this state."
            )
        return [saved["tasks"].index(task) for task in self.tasks]


def _plausible(state: Mapping[str, Tensor]) -> bool:
    """Whether buffers can be a state: no chance contents of memory pass all of this."""
    counts = [t for t in state.values() if not t.is_floating_point()]
    logs = [state[name] for name in ("log_ema", "log_used", "offset")]
    prior, norm, unseen = state["prior"], state["norm"], state["turns"] == 0
    credit, loss = state["credit"], state["log_loss"]
    fresh = [state[name][unseen] for name in ("count", "in_force", "log_ema", "log_used")]
    return (
        all(bool(((t >= 0) & (t < 2**40)).all()) for t in counts)
        and all(bool((t.abs() < 1e3).all()) for t in logs)
        and bool(((prior > 1e-100) & (prior < 1e100)).all())
        and bool((norm.isnan() | (norm >= 0)).all() and norm[unseen].isnan().all())
        and bool(((credit >= -1) & (credit < 3)).all())
        and bool(((loss == -torch.inf) | (loss.abs() < 1e3)).all())
        and not any(t.any() for t in fresh)
    )
