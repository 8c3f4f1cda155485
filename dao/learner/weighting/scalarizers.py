"""Weightings that look at loss values alone; torchjd has all but one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.settings.weighting_spec import Spec
from dao.learner.weighting.weighting import (
    Losses,
    Weighting,
    load_plain_state,
    plain_state,
    present,
    record,
)

__all__ = ["Scalarized", "SelfOptimalUncertainty"]


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


class Scalarized(Weighting):
    """One of torchjd's scalarizers, or `SelfOptimalUncertainty`, on the vector of losses.

    A scalarizer sees a value of every task; for a task that a batch lacks it is the last one, which
    sends no gradient anywhere.

    Args:
        spec: names the method.
        tasks: their names, in order.
        lr: for the parameters that a method learns.
    """

    seen: Tensor

    def __init__(self, spec: Spec, tasks: Sequence[str], lr: float) -> None:
        super().__init__()
        self.tasks, self.lr = list(tasks), lr
        self.scalarizer: Any = _scalarizer(spec, len(tasks))
        self.looks_again = hasattr(self.scalarizer, "update")
        self.register_buffer("seen", torch.ones(len(tasks)))
        learns = not self.looks_again and any(True for _ in self.scalarizer.parameters())
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
        if hasattr(self.scalarizer, "step"):
            self.scalarizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        """What torchjd keeps outside of buffers, and the optimizers."""
        inner = getattr(self.scalarizer, "_optimizer", None)
        optimizers = {"own": self.optimizer, "famo": inner}
        saved = {k: o.state_dict() for k, o in optimizers.items() if o is not None}
        return {"plain": plain_state(self.scalarizer), "optimizers": saved}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        load_plain_state(self.scalarizer, state["plain"])
        saved = state["optimizers"]
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["own"])
        if "famo" in saved:
            famo: Any = self.scalarizer
            famo._optimizer = torch.optim.Adam([famo._w])
            famo._optimizer.load_state_dict(saved["famo"])


def _scalarizer(spec: Spec, tasks: int) -> nn.Module:
    if spec.name == "uw_so":
        return SelfOptimalUncertainty(spec.numbers[0])
    try:
        from torchjd import scalarization
    except ImportError:
        raise UserError(
            f"`weighting` = {spec.name} needs torchjd. Found it not installed. "
            f'Install the extra: pip install -e ".[baselines]".'
        ) from None
    made: dict[str, Callable[[], nn.Module]] = {
        "gls": scalarization.GeometricMean,
        "uw": lambda: scalarization.UW(tasks),
        "imtl_l": lambda: scalarization.IMTLL(tasks),
        "rlw": scalarization.Random,
        "dwa": lambda: scalarization.DWA(*spec.numbers),
        "famo": lambda: scalarization.FAMO(tasks),
    }
    return made[spec.name]()
