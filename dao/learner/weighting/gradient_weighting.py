"""Weightings that look at each task's gradient; K backward passes per step for K tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dao import TaskRecord
from dao.errors import UserError
from dao.importance import task_gradients
from dao.learner.settings.weighting_spec import Spec
from dao.learner.weighting.weighting import (
    Losses,
    Parameters,
    Weighting,
    load_plain_state,
    plain_state,
    present,
    record,
    without_torchjd,
)

__all__ = ["AGGREGATORS", "Aggregated", "DualBalancing", "GradNorm", "make"]

EPSILON = 1e-8
AGGREGATORS = (
    "AlignedMTL", "CAGrad", "ConFIG", "Constant", "DualProj", "ExcessMTL", "FairGrad", "GradDrop",
    "GradVac", "IMTLG", "Krum", "MGDA", "Mean", "NashMTL", "PCD", "PCGrad", "Random", "Sum",
    "TrimmedMean", "UPGrad",
)  # fmt: skip
"""Those of torchjd that are made from numbers; others take a weighting as an argument."""
COUNTS_TASKS = ("NashMTL",)
"""Those that are told how many tasks there are."""
WITHOUT_WEIGHTS = ("GradDrop", "TrimmedMean")
"""Those whose result is no weighted sum of the gradients, so that no weights can be reported."""
GRADNORM_LR = 0.025  # of the paper, as in its experiments on NYUv2


def make(spec: Spec, tasks: Sequence[str], shared: Parameters, trainable: Parameters) -> Weighting:
    """The weighting that `spec` names: `gradnorm`, `dbmtl`, or an aggregator of torchjd."""
    if spec.name == "gradnorm":
        return GradNorm(tasks, shared, trainable, alpha=spec.numbers[0])
    if spec.name == "dbmtl":
        return DualBalancing(tasks, shared, trainable, beta=spec.numbers[0])
    return Aggregated(spec, len(tasks), shared, trainable)


class Gradients(NamedTuple):
    """Gradients of K losses.

    Attributes:
        shared: (K, parameters that all tasks share), a row per task.
        own: per task, the gradient of each other parameter, None where it has no part.
    """

    shared: Tensor
    own: list[list[Tensor | None]]


class _Parts:
    """Which parameters are shared and which are not, asked anew at each step: models grow."""

    def __init__(self, shared: Parameters, trainable: Parameters) -> None:
        self._shared, self._trainable = shared, trainable

    def split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        shared = self._shared()
        known = {id(p) for p in shared}
        return shared, [p for p in self._trainable() if id(p) not in known]

    def gradients(self, losses: Sequence[Tensor]) -> Gradients:
        shared, own = self.split()
        rows, others = [], []
        for loss in losses:
            found = task_gradients(loss, [*shared, *own])
            pairs = zip(found[: len(shared)], shared, strict=True)
            rows.append(
                torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
            )
            others.append(found[len(shared) :])
        return Gradients(torch.stack(rows), others)

    def fill(self, shared_gradient: Tensor, weights: Tensor, gradients: Gradients) -> None:
        """Set `.grad`: the given one, (P,), on what is shared; the weighted sum elsewhere."""
        shared, own = self.split()
        pieces = torch.split(shared_gradient, [p.numel() for p in shared])
        for parameter, piece in zip(shared, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).to(parameter.dtype)
        for index, parameter in enumerate(own):
            terms = [
                weight * row[index]
                for weight, row in zip(weights, gradients.own, strict=True)
                if row[index] is not None
            ]
            parameter.grad = torch.stack(terms).sum(0) if terms else None


def _records(live: dict[str, Tensor], weights: Tensor, norms: Tensor) -> dict[str, TaskRecord]:
    pulls = (weights * norms).abs().double()
    shares = pulls / pulls.nansum()
    return {
        task: record(loss, weight, norm, share)
        for (task, loss), weight, norm, share in zip(
            live.items(), weights, norms, shares, strict=True
        )
    }


class GradNorm(Weighting):
    r"""GradNorm (Chen et al., ICML 2018, arXiv 1711.02257), over all shared parameters.

    Weights :math:`w_k` are learned by Adam so that :math:`|w_k n_k - \bar g\, r_k^\alpha|` falls,
    with :math:`n_k` the gradient norm of task k, :math:`\bar g` the mean of :math:`w_j n_j`, and
    :math:`r_k` its loss relative to the first one, over the mean of these; they sum to K.

    Args:
        tasks: their names, in order.
        shared: the parameters whose gradients are compared.
        trainable: all trainable parameters.
        alpha: how far tasks that learn slowly are favoured.
    """

    first: Tensor

    def __init__(
        self, tasks: Sequence[str], shared: Parameters, trainable: Parameters, alpha: float
    ) -> None:
        super().__init__()
        self.tasks, self.alpha = list(tasks), alpha
        self._parts = _Parts(shared, trainable)
        self.weight = nn.Parameter(torch.ones(len(tasks)))
        self.register_buffer("first", torch.full((len(tasks),), torch.nan))
        self.optimizer = torch.optim.Adam([self.weight], lr=GRADNORM_LR)
        self.measured = True

    def backward(self, losses: Losses) -> Tensor:
        """Per-task gradients, their weighted sum, then a step of the weights."""
        live = present(losses)
        index = torch.tensor([self.tasks.index(task) for task in live], device=self.first.device)
        values = torch.stack([loss.detach().float() for loss in live.values()])
        self.first[index] = torch.where(self.first[index].isnan(), values, self.first[index])
        gradients = self._parts.gradients(list(live.values()))
        norms = gradients.shared.norm(dim=1)
        weights = self.weight.detach()[index].clone()
        self._parts.fill(weights @ gradients.shared, weights, gradients)
        self._learn(index, values, norms)
        self.last = _records(live, weights, norms)
        return (weights * values).sum()

    def _learn(self, index: Tensor, values: Tensor, norms: Tensor) -> None:
        pull = self.weight[index] * norms
        progress = values / self.first[index].clamp(min=EPSILON)
        target = pull.mean() * (progress / progress.mean()) ** self.alpha
        self.optimizer.zero_grad()
        torch.autograd.backward((pull - target.detach()).abs().sum())
        self.optimizer.step()
        with torch.no_grad():
            self.weight.clamp_(min=EPSILON)
            self.weight.mul_(len(self.tasks) / self.weight.sum())

    def get_extra_state(self) -> dict[str, Any]:
        """The optimizer's state."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        self.optimizer.load_state_dict(state)


class DualBalancing(Weighting):
    r"""DB-MTL (Lin et al. 2023, arXiv 2308.12029): log losses, gradients at the largest norm.

    Shared parameters get :math:`\sum_k \hat g_k \max_j \|\hat g_j\| / \|\hat g_k\|` with
    :math:`\hat g_k` the running mean (factor beta) of the gradient of :math:`\log L_k`, from the
    first one on; the others get the gradient of the sum of log losses.

    Args:
        tasks: their names, in order.
        shared: the parameters whose gradients are balanced.
        trainable: all trainable parameters.
        beta: of the running mean.
    """

    def __init__(
        self, tasks: Sequence[str], shared: Parameters, trainable: Parameters, beta: float
    ) -> None:
        super().__init__()
        if beta >= 1:
            raise UserError(
                f"`dbmtl` should have a beta below 1. Found {beta}. Leave it out for 0.9."
            )
        self.tasks, self.beta = list(tasks), beta
        self._parts = _Parts(shared, trainable)
        self._mean: Tensor | None = None
        self.measured = True

    def backward(self, losses: Losses) -> Tensor:
        """Gradients of the log losses, smoothed, at equal norm."""
        live = present(losses)
        logs = [torch.log(loss + EPSILON) for loss in live.values()]
        gradients = self._parts.gradients(logs)
        mean = self._smooth([self.tasks.index(task) for task in live], gradients.shared)
        norms = mean.norm(dim=1)
        weights = norms.max() / (norms + EPSILON)
        self._parts.fill(weights @ mean, torch.ones_like(weights), gradients)
        self.last = _records(live, weights, norms)
        return torch.stack([log.detach() for log in logs]).sum()

    def _smooth(self, index: list[int], rows: Tensor) -> Tensor:
        self._mean = None if self._mean is None else self._mean.to(rows.device)
        if self._mean is None or self._mean.shape[1] != rows.shape[1]:  # dendrites have grown
            self._mean = rows.new_full((len(self.tasks), rows.shape[1]), torch.nan)
        before = torch.where(self._mean[index].isnan(), rows, self._mean[index])
        self._mean[index] = rows + self.beta * (before - rows)
        return self._mean[index]

    def get_extra_state(self) -> dict[str, Any]:
        """The running means."""
        return {} if self._mean is None else {"mean": self._mean}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        self._mean = state.get("mean")


class Aggregated(Weighting):
    """An aggregator of torchjd on the Jacobian of the shared parameters; heads have weight 1.

    A batch with a label of one task only takes that task's gradient as it is.

    Args:
        spec: names the class and its arguments.
        tasks: how many there are.
        shared: the parameters whose gradients are aggregated.
        trainable: all trainable parameters.
    """

    def __init__(self, spec: Spec, tasks: int, shared: Parameters, trainable: Parameters) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule: torchjd adds and removes buffers while it works,
        # and a saved state would not fit.
        self._aggregator = (_aggregator(spec, tasks),)
        self._parts = _Parts(shared, trainable)
        self._weights: Tensor | None = None
        if spec.aggregator not in WITHOUT_WEIGHTS:
            weighting: Any = self.aggregator.weighting
            weighting.register_forward_hook(self._remember)
        self.measured = True

    @property
    def aggregator(self) -> nn.Module:
        """The aggregator of torchjd."""
        return self._aggregator[0]

    def _remember(self, _: nn.Module, __: object, weights: Tensor) -> None:
        self._weights = weights.detach()

    def backward(self, losses: Losses) -> Tensor:
        """The aggregated gradient on what is shared, each task's own elsewhere."""
        live = present(losses)
        gradients = self._parts.gradients(list(live.values()))
        rows = gradients.shared
        ones = rows.new_ones(len(rows))
        self._weights = None
        if len(rows) == 1:
            combined, weights = rows[0], ones
        else:
            combined = self.aggregator(rows)
            unknown = torch.full_like(ones, torch.nan)
            weights = unknown if self._weights is None else self._weights
        self._parts.fill(combined, ones, gradients)
        self.last = _records(live, weights, rows.norm(dim=1))
        return torch.stack([loss.detach() for loss in live.values()]).sum()

    def get_extra_state(self) -> dict[str, Any]:
        """What torchjd keeps outside of buffers."""
        return plain_state(self.aggregator)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        load_plain_state(self.aggregator, state)


def _aggregator(spec: Spec, tasks: int) -> nn.Module:
    try:
        from torchjd import aggregation
    except ImportError:
        raise without_torchjd("torchjd:...") from None
    if spec.aggregator not in AGGREGATORS:
        raise UserError(
            f"`weighting` = torchjd:NAME should name an aggregator of torchjd. Found "
            f"{spec.aggregator!r}. There are: {', '.join(AGGREGATORS)}."
        )
    kind: Any = getattr(aggregation, spec.aggregator)
    options = dict(spec.options)
    if spec.aggregator in COUNTS_TASKS:
        options.setdefault("n_tasks", tasks)
    try:
        with torch.random.fork_rng([]):
            kind(**options)(torch.eye(tasks, 2 * tasks))  # some refuse few rows only in a call
        made: nn.Module = kind(**options)
    except (TypeError, ValueError, ImportError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"`weighting` = torchjd:{spec.aggregator} cannot be made for {tasks} tasks: "
            f"{error}. Arguments go in brackets, for example torchjd:GradVac(beta=0.3)."
        ) from None
    return made
