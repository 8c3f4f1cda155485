"""The interface of all loss weightings, and DAO, equal and fixed weights behind it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dao import DAOLoss, TaskRecord
from dao.errors import UserError
from dao.learner.basics.program import install
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.settings.weighting_spec import Spec, accumulates, parse_weighting

__all__ = [
    "Balanced",
    "Weighting",
    "load_plain_state",
    "make_weighting",
    "plain_state",
    "present",
    "record",
    "without_torchjd",
]

Losses = Mapping[str, Tensor | None]
Parameters = Callable[[], list[nn.Parameter]]


class Weighting(nn.Module, ABC):
    """Turns the losses of a batch into gradients; its state dict holds everything it remembers.

    Attributes:
        last: what each task of the last batch did.
        measured: whether gradient norms were taken in it.
        broken: tasks left out of it, because their gradient was measured and is not finite.
        looks_again: whether `after_step` evaluates the losses of the batch a second time.
    """

    looks_again = False

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, TaskRecord] = {}
        self.measured = False
        self.broken: list[str] = []

    @abstractmethod
    def backward(self, losses: Losses) -> Tensor:
        """Fill `.grad` of everything trainable; the weighted sum, detached.

        Args:
            losses: a scalar per task, None where the batch has no label of it.
        """

    def accumulate(self, losses: Losses, parts: Mapping[str, float]) -> Tensor:
        """As `backward`, of one batch of several: what it sends is added to `.grad`.

        Args:
            losses: of this batch.
            parts: per task, the weight of its loss in the mean over all rows of the optimizer step;
                empty where the batch is the whole step.

        Raises:
            UserError: there are parts, and this weighting takes one batch per step.
        """
        if parts:
            raise UserError(
                f"`train.accumulate` should be 1 with this weighting. Found several batches per "
                f"step for {type(self).__name__}. Raise train.batch_size instead."
            )
        return self.backward(losses)

    def tap(self, z: Tensor) -> Tensor:
        """Sees the shared representation (batch, width) on its way to the heads."""
        return z

    def is_due(self, losses: Losses) -> bool:  # noqa: ARG002
        """Whether the next `backward` waits for the device in any case."""
        return False

    def end_step(self) -> None:
        """After the last batch of an optimizer step, before that step."""

    def after_step(self, again: Callable[[], Losses]) -> None:
        """After the optimizer's step; `again` gives the losses of the same batch anew."""

    def end_epoch(self) -> None:
        """After the last step of an epoch."""


class Balanced(Weighting):
    """`DAOLoss` in one of its settings: `dao`, `equal` and `fixed`."""

    def __init__(self, loss: DAOLoss) -> None:
        super().__init__()
        self.loss = loss

    def backward(self, losses: Losses) -> Tensor:
        """One backward of the balanced sum; NaN and none if every task is broken."""
        return self.accumulate(losses, {})

    def accumulate(self, losses: Losses, parts: Mapping[str, float]) -> Tensor:
        """See `Weighting.accumulate`; norms are measured of the losses without their parts."""
        before = self.loss.state.dropped.tolist()
        # `DAOLoss` would round a float to 32 bits, but not a tensor.
        exact = {task: torch.tensor(part, dtype=torch.float64) for task, part in parts.items()}
        try:
            loss: Tensor = self.loss(losses, exact)
        except UserError:
            self.broken = self._dropped_since(before)
            if not self.broken:
                raise
            self.last, self.measured = {}, True
            return torch.tensor(math.nan)
        self.broken = self._dropped_since(before)
        torch.autograd.backward(loss)
        self.last, self.measured = self.loss.last, self.loss.measured
        if ranks.several():  # `loss` is of this rank's rows alone
            terms = [r.weight * r.loss * parts.get(task, 1.0) for task, r in self.last.items()]
            return torch.stack(terms).sum()
        return loss.detach()

    def end_step(self) -> None:
        """Count a step with fewer batches, or a task that some of them lack, as one whole step."""
        state, batches = self.loss.state, self.loss.accumulate
        state.turns += -state.turns % batches
        state.step += -state.step % batches

    def _dropped_since(self, before: list[int]) -> list[str]:
        """Tasks that `DAOLoss` has left out and counted; its state is on the CPU."""
        counts = zip(self.loss.tasks, before, self.loss.state.dropped.tolist(), strict=True)
        return [task for task, old, new in counts if new > old]

    def tap(self, z: Tensor) -> Tensor:
        """See `DAOLoss.tap`."""
        return self.loss.tap(z)

    def is_due(self, losses: Losses) -> bool:
        """See `DAOLoss.is_due`."""
        return self.loss.is_due(losses)


def make_weighting(
    cfg: Config,
    tasks: Sequence[str],
    shared: Parameters,
    trainable: Parameters,
    device: torch.device,
) -> Weighting:
    """The weighting that the settings name.

    Args:
        cfg: `weighting`, and the options of `dao`.
        tasks: their names, in order.
        shared: the trainable parameters that all tasks share.
        trainable: all trainable parameters.
        device: of the losses.

    Raises:
        UserError: the weighting needs a library that is not installed, or arguments; or this
            process is one of several, and the weighting does not know of the others.
    """
    spec = parse_weighting(cfg.weighting, tasks)
    if accumulates(cfg.weighting):
        # Left on the CPU: its counters then decide without waiting for the device.
        return Balanced(_dao_loss(cfg, spec, tasks, shared))
    if ranks.several():
        raise UserError(
            f"`weighting` should be dao, equal or fixed on several processes. Found "
            f"{cfg.weighting!r}, which would see the losses of one process only. Start it on one."
        )
    if spec.name in ("gradnorm", "dbmtl", "torchjd"):
        from dao.learner.weighting.gradient_weighting import make

        return make(spec, tasks, shared, trainable).to(device)
    if spec.name in ("norm0", "autoscale"):
        from dao.learner.weighting.first_steps import make as first_steps

        return first_steps(spec, tasks, shared).to(device)
    from dao.learner.weighting.scalarizers import Scalarized

    return Scalarized(spec, tasks, lr=cfg.train.lr).to(device)


def _dao_loss(settings: Config, spec: Spec, tasks: Sequence[str], shared: Parameters) -> DAOLoss:
    cfg = settings.dao
    # The history looks for losses that are not finite, and the run stops at one.
    common: dict[str, Any] = {"params": shared, "check_finite": "measured"}
    common |= {**cfg.measured(len(tasks)), "rep_norm": cfg.rep_norm}
    common |= {"accumulate": settings.train.accumulate}
    if spec.name != "dao":
        # The same object with alpha 0: constant weights, whose sum is constant as well, the same
        # telemetry, the same work per step, so that the arms differ in the weights alone.
        priors = dict(zip(tasks, spec.numbers, strict=True)) if spec.numbers else None
        return DAOLoss(tasks, alpha=0.0, priors=priors, total="tasks", **common)
    return DAOLoss(
        tasks,
        alpha=cfg.alpha,
        ema=cfg.ema,
        max_ratio=cfg.max_ratio,
        total=cfg.total,
        absent=cfg.absent,
        priors=cfg.priors or None,
        **common,
    )


def present(losses: Losses) -> dict[str, Tensor]:
    """The losses that a batch has.

    Raises:
        UserError: it has none.
    """
    found = {task: loss for task, loss in losses.items() if loss is not None}
    if not found:
        raise UserError("A batch should have a label of some task. Found none. Drop such rows.")
    return found


def record(
    loss: Tensor, weight: Tensor, norm: Tensor | None = None, share: Tensor | None = None
) -> TaskRecord:
    """A task's record; NaN for what was not measured."""
    unknown = torch.full((), torch.nan, dtype=torch.float64, device=loss.device)
    parts = (loss, weight, unknown if norm is None else norm, unknown if share is None else share)
    return TaskRecord(*(part.detach().double() for part in parts))


def without_torchjd(weighting: str) -> UserError:
    """The error for a weighting that needs torchjd, where torchjd is not installed."""
    return UserError(
        f"`weighting` = {weighting} needs torchjd. Found it not installed. Install the extra: "
        f"{install('baselines')}"
    )


def plain_state(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Tensors and numbers that a foreign module keeps outside of its parameters, by submodule."""
    found: dict[str, dict[str, Any]] = {}
    for path, part in module.named_modules():
        attributes = {**vars(part), **part._buffers}
        packed = {name: _pack(value) for name, value in attributes.items()}
        found[path] = {name: value for name, value in packed.items() if value is not None}
    return found


def load_plain_state(module: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Take over what `plain_state` gave; tensors return to the kind of device they were on."""
    for path, values in state.items():
        for name, value in values.items():
            setattr(module.get_submodule(path), name, _unpack(value))


def _pack(value: object) -> tuple[str, Any] | None:
    """Kind and content, which a load without pickle accepts; None for what is no state."""
    if isinstance(value, Tensor):
        return value.device.type, value.detach()
    if isinstance(value, torch.device):
        return "device", str(value)
    if value is None or isinstance(value, torch.dtype | bool | int | float):
        return "plain", value
    if isinstance(value, list | tuple):
        packed = [_pack(item) for item in value]
        return None if None in packed else (type(value).__name__, packed)
    return None


def _unpack(packed: tuple[str, Any]) -> Any:  # noqa: ANN401
    kind, content = packed
    if isinstance(content, Tensor):
        return content.to(kind)
    if kind == "device":
        return torch.device(content)
    if kind in ("list", "tuple"):
        items = [_unpack(item) for item in content]
        return items if kind == "list" else tuple(items)
    return content
