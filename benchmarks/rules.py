"""The rules that `benchmarks.weighting` times, each called as in a training loop of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dao import DAOLoss
from dao.learner.settings.weighting_spec import parse_weighting
from dao.learner.weighting.gradient_weighting import make as gradient_weighting
from dao.learner.weighting.scalarizers import Scalarized
from dao.learner.weighting.weighting import Balanced, Losses, Weighting, present

__all__ = ["LR", "RULES", "Parts", "Rule", "Sum"]

LR = 1e-4
"""Of the model, and of what a rule learns by the model's schedule."""


@dataclass(frozen=True)
class Parts:
    """What a rule may look at.

    Attributes:
        encoder: all that the tasks share.
        last: its last block.
        heads: a module per task.
        device: where they are.
    """

    encoder: nn.Module
    last: nn.Module
    heads: Mapping[str, nn.Module]
    device: torch.device

    @property
    def tasks(self) -> list[str]:
        """Their names, in order."""
        return list(self.heads)

    @property
    def shared(self) -> list[nn.Parameter]:
        """The trainable parameters of the encoder."""
        return [p for p in self.encoder.parameters() if p.requires_grad]

    @property
    def trainable(self) -> list[nn.Parameter]:
        """Those, and the heads'."""
        return [*self.shared, *(p for head in self.heads.values() for p in head.parameters())]


@dataclass(frozen=True)
class Rule:
    """A way to weight losses.

    Attributes:
        about: what it is, in a few words.
        make: the rule for a model; ImportError or UserError if something is not installed.
        varies: its steps do not all cost the same, so that only a run of many says what it costs.
    """

    about: str
    make: Callable[[Parts], Weighting]
    varies: bool = False


class Sum(Weighting):
    """Equal weights, and nothing else: the sum of the losses."""

    def backward(self, losses: Losses) -> Tensor:
        """One backward of the sum."""
        loss = torch.stack(list(present(losses).values())).sum()
        torch.autograd.backward(loss)
        return loss.detach()


class TorchJd(Weighting):
    """An aggregator of torchjd, by `mtl_backward` from the representation and `jac_to_grad`.

    Args:
        name: class in `torchjd.aggregation`.
        parts: the model.
        chunk: losses differentiated at once; None, torchjd's default, for all (by vmap).
    """

    def __init__(self, name: str, parts: Parts, chunk: int | None = None) -> None:
        super().__init__()
        from torchjd import aggregation, autojac

        self._autojac, self._chunk = autojac, chunk
        self._aggregator = getattr(aggregation, name)()
        self._shared = parts.shared
        self._heads = [list(head.parameters()) for head in parts.heads.values()]
        self._features: Tensor | None = None

    def tap(self, z: Tensor) -> Tensor:
        """The representation, from which the Jacobian is propagated."""
        self._features = z
        return z

    def backward(self, losses: Losses) -> Tensor:
        """The aggregated gradient on the shared parameters, each task's own on its head."""
        live = present(losses)
        self._autojac.mtl_backward(
            list(live.values()),
            features=self._features,
            tasks_params=self._heads,
            shared_params=self._shared,
            parallel_chunk_size=self._chunk,
        )
        self._autojac.jac_to_grad(self._shared, self._aggregator)
        self._features = None
        return torch.stack([loss.detach() for loss in live.values()]).sum()


class LibMtl(Weighting):
    """A rule of LibMTL, if a copy of it is installed (the package index has none).

    Its rules are base classes of a model; here it is a model without modules, which is told the
    shared parameters. Gradients are taken over all of them (`rep_grad=False`).

    Args:
        name: class in `LibMTL.weighting`.
        parts: the model.
        options: what `backward` of the class takes, as in LibMTL's own configuration.
    """

    def __init__(self, name: str, parts: Parts, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        kind: Any = getattr(importlib.import_module("LibMTL.weighting"), name)

        class Model(kind):  # type: ignore[misc]
            def get_share_params(self) -> list[nn.Parameter]:
                return parts.shared

            def zero_grad_share_params(self) -> None:
                # To zero, not to None: LibMTL then writes into `param.grad.data`.
                for parameter in parts.shared:
                    if parameter.grad is not None:
                        parameter.grad.zero_()

        model = Model()
        model.task_num, model.task_name = len(parts.tasks), parts.tasks
        model.device, model.rep_grad = parts.device, False
        # GradNorm adds up the losses in epoch 0, and divides by those of that epoch later.
        model.epoch, model.train_loss_buffer = 1, torch.ones(len(parts.tasks), 2).numpy()
        model.init_param()
        self._model, self._options = (model,), options

    def backward(self, losses: Losses) -> Tensor:
        """The rule's gradient on the shared parameters, each task's own on its head."""
        vector = torch.stack(list(present(losses).values()))
        self._model[0].backward(vector, **self._options)
        return vector.detach().sum()


def _dao(parts: Parts, **options: Any) -> Weighting:  # noqa: ANN401
    return Balanced(DAOLoss(parts.tasks, params=parts.encoder.parameters, **options))


def _dao_last(parts: Parts) -> Weighting:
    return Balanced(DAOLoss(parts.tasks, source="last", module=parts.last))


def _dao_paper(parts: Parts) -> Weighting:
    return Balanced(DAOLoss.paper(parts.tasks, parts.encoder.parameters))


def _by_value(name: str, parts: Parts) -> Weighting:
    return Scalarized(parse_weighting(name, parts.tasks), parts.tasks, lr=LR).to(parts.device)


def _by_gradient(name: str, parts: Parts) -> Weighting:
    spec = parse_weighting(name, parts.tasks)
    return gradient_weighting(spec, parts.tasks, lambda: parts.shared, lambda: parts.trainable).to(
        parts.device
    )


_TORCHJD = ("UPGrad", "MGDA", "IMTLG", "AlignedMTL", "PCGrad")
_LIBMTL: dict[str, dict[str, Any]] = {
    "GradNorm": {"alpha": 1.5},
    "PCGrad": {},
    "CAGrad": {"calpha": 0.5, "rescale": 1},
    "IMTL": {},
    "MGDA": {"mgda_gn": "none"},
}

RULES: dict[str, Rule] = {
    "equal": Rule("sum of the losses", lambda _: Sum()),
    "equal_again": Rule("the same: how far off 1 is by chance", lambda _: Sum(), varies=True),
    "dao_default": Rule("DAOLoss as it comes, tapped", _dao, varies=True),
    "dao_untapped": Rule("the same without a tap", partial(_dao, source="params"), varies=True),
    "dao_every_step": Rule("norms at every step", partial(_dao, refresh_every=1)),
    "dao_paper": Rule("DAOLoss.paper", _dao_paper),
    "dao_last": Rule("norms over the last block", _dao_last, varies=True),
    "dao_rep": Rule("norms at the representation", partial(_dao, source="rep"), varies=True),
    "dao_rep_frobenius": Rule(
        "the same, Frobenius norm",
        partial(_dao, source="rep", rep_norm="frobenius"),
        varies=True,
    ),
    "dao_rep_calibrated": Rule(
        "the same, calibrated every 50 steps",
        partial(_dao, source="rep", calibrate_every=50),
        varies=True,
    ),
    **{
        name: Rule(about, partial(_by_value, name))
        for name, about in {
            "gls": "geometric mean",
            "uw": "learned uncertainty",
            "famo": "FAMO, a second forward",
        }.items()
    },
    **{
        name: Rule(f"{about}, this project's", partial(_by_gradient, name))
        for name, about in {"gradnorm": "GradNorm", "dbmtl": "DB-MTL"}.items()
    },
    **{
        f"torchjd_{name.lower()}": Rule(f"{name} of torchjd", partial(TorchJd, name))
        for name in _TORCHJD
    },
    "torchjd_upgrad_in_turn": Rule(
        "UPGrad, one loss at a time", partial(TorchJd, "UPGrad", chunk=1)
    ),
    **{
        f"libmtl_{name.lower()}": Rule(f"{name} of LibMTL", partial(LibMtl, name, **options))
        for name, options in _LIBMTL.items()
    },
}
"""By name; a further one is an entry here."""
