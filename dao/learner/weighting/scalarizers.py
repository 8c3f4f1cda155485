"""Weightings that look at loss values alone; torchjd has all but one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dao.learner.settings.weighting_spec import Spec
from dao.learner.weighting.weighting import (
    Losses,
    Weighting,
    load_plain_state,
    plain_state,
    present,
    record,
    without_torchjd,
)

__all__ = ["METHODS", "Method", "Scalarized", "SelfOptimalUncertainty"]

_Make = Callable[[Spec, int], nn.Module]


class SelfOptimalUncertainty(nn.Module):
    r"""UW-SO (arXiv 2408.07985): weights :math:`\mathrm{softmax}_k(1 / (T L_k))`, detached.

    Args:
        temperature: :math:`T`; the paper tunes it.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, values: Tensor) -> Tensor:
        """Positive losses (K,) to their weighted sum."""
        weights = torch.softmax(1 / (values.detach() * self.temperature), dim=0)
        return (weights * values).sum()


@dataclass(frozen=True)
class Method:
    """How one weighting is made, and what it wants of the training beside the losses.

    Attributes:
        make: the weighting of this many tasks, from the numbers in its name.
        learns: whether its parameters are trained here, with the model's learning rate.
        looks_again: whether it is told the losses of the batch after the step (FAMO, which has an
            optimizer of its own).
        by_epoch: whether it is told the end of an epoch.
    """

    make: _Make
    learns: bool = False
    looks_again: bool = False
    by_epoch: bool = False


def _of_torchjd(name: str, arguments: Callable[[Spec, int], Sequence[Any]]) -> _Make:
    """What makes the scalarizer of this name, once it is asked for; torchjd is imported late."""

    def make(spec: Spec, tasks: int) -> nn.Module:
        try:
            from torchjd import scalarization
        except ImportError:
            raise without_torchjd(spec.name) from None
        made: nn.Module = getattr(scalarization, name)(*arguments(spec, tasks))
        return made

    return make


def _nothing(_: Spec, __: int) -> Sequence[Any]:
    return ()


def _numbers(spec: Spec, _: int) -> Sequence[Any]:
    return spec.numbers


def _count(_: Spec, tasks: int) -> Sequence[Any]:
    return (tasks,)


METHODS = {
    "uw_so": Method(lambda spec, _: SelfOptimalUncertainty(spec.numbers[0])),
    "gls": Method(_of_torchjd("GeometricMean", _nothing)),
    "uw": Method(_of_torchjd("UW", _count), learns=True),
    "imtl_l": Method(_of_torchjd("IMTLL", _count), learns=True),
    "rlw": Method(_of_torchjd("Random", _nothing)),
    "dwa": Method(_of_torchjd("DWA", _numbers), by_epoch=True),
    "famo": Method(_of_torchjd("FAMO", _count), looks_again=True),
}


class Scalarized(Weighting):
    """One of torchjd's scalarizers, or `SelfOptimalUncertainty`, on the vector of losses.

    A scalarizer sees a value of every task. For a task that a batch lacks, it sees the last known
    value, which has no gradient.

    Args:
        spec: names the method.
        tasks: their names, in order.
        lr: for the parameters that a method learns.
    """

    seen: Tensor

    def __init__(self, spec: Spec, tasks: Sequence[str], lr: float) -> None:
        super().__init__()
        self.tasks, self.lr = list(tasks), lr
        self.method = METHODS[spec.name]
        self.scalarizer: Any = self.method.make(spec, len(tasks))
        self.looks_again = self.method.looks_again
        self.register_buffer("seen", torch.ones(len(tasks)))
        learns = self.method.learns
        self.optimizer = torch.optim.Adam(self.scalarizer.parameters(), lr=lr) if learns else None

    def backward(self, losses: Losses) -> Tensor:
        """One backward of the sum whose weights are the scalarizer's derivatives."""
        live = present(losses)
        values = self._take_up(live).requires_grad_()
        self.scalarizer(values).backward()
        assert values.grad is not None
        weights = dict(zip(self.tasks, values.grad.unbind(), strict=True))
        self._learn([task in live for task in self.tasks])
        loss = torch.stack([weights[task] * value for task, value in live.items()]).sum()
        torch.autograd.backward(loss)
        self.last = {task: record(value, weights[task]) for task, value in live.items()}
        return loss.detach()

    def _take_up(self, live: dict[str, Tensor]) -> Tensor:
        for task, loss in live.items():
            self.seen[self.tasks.index(task)] = loss.detach()
        return self.seen.clone()

    def _learn(self, having: list[bool]) -> None:
        if self.optimizer is None:
            return
        for parameter in self.scalarizer.parameters():
            if parameter.grad is not None:
                parameter.grad *= torch.tensor(having, device=parameter.device)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def after_step(self, again: Callable[[], Losses]) -> None:
        """FAMO learns from how far the step brought each loss down."""
        if self.looks_again:
            with torch.no_grad():
                self.scalarizer.update(self._take_up(present(again())))

    def end_epoch(self) -> None:
        """DWA compares epochs."""
        if self.method.by_epoch:
            self.scalarizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        """The values that torchjd keeps outside of buffers, and the optimizers' states."""
        inner = self.scalarizer._optimizer if self.looks_again else None
        optimizers = {"own": self.optimizer, "famo": inner}
        saved = {k: o.state_dict() for k, o in optimizers.items() if o is not None}
        return {"plain": plain_state(self.scalarizer), "optimizers": saved}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        load_plain_state(self.scalarizer, state["plain"])
        saved = state["optimizers"]
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["own"])
        if self.looks_again:
            famo: Any = self.scalarizer
            famo._optimizer = torch.optim.Adam([famo._w])
            famo._optimizer.load_state_dict(saved["famo"])
