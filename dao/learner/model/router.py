"""The router: which expert a text is for, learned from its domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dao.errors import UserError

__all__ = [
    "Router",
    "RouterLoss",
    "check_varies",
    "mixing_weights",
    "router_loss",
    "router_width",
]

# Relative difference: rounding of a mean over tokens is far smaller, two texts differ far more.
SAME = 1e-6


class Router(nn.Module):
    """A layer norm and a linear layer from a text's features to a logit per expert.

    Before training, all experts weigh the same.

    Args:
        width: of the features.
        experts: how many.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, experts)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, width) to logits (batch, experts)."""
        logits: Tensor = self.out(self.norm(features))
        return logits


def router_width(base: Any, reads: Literal["embeddings", "states"]) -> int:  # noqa: ANN401
    """Width of what the router sees of an encoder: of a token's embedding, or of its last state."""
    if reads == "embeddings":
        return int(base.get_input_embeddings().embedding_dim)
    return int(base.config.hidden_size)


def mixing_weights(logits: Tensor, routing: Literal["soft", "hard"]) -> Tensor:
    """Logits (batch, experts) to the experts' weights, which sum to one in each row.

    Example:
        >>> mixing_weights(torch.tensor([[0.0, 0.0], [1.0, 3.0]]), "hard").tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if routing == "soft":
        return logits.softmax(-1)
    return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)


class RouterLoss(NamedTuple):
    """The losses that train the router beside those of the tasks, and its accuracy; scalars."""

    domain: Tensor
    """Cross-entropy of the logits with the true domains."""
    balance: Tensor
    """Divergence of the experts' mean weights from the mix of domains in the batch."""
    accuracy: Tensor
    """Share of the rows whose heaviest expert is the one of their domain; no loss."""


def router_loss(logits: Tensor, domains: Tensor) -> RouterLoss:
    r"""The router's losses on a batch.

    The balance is :math:`\sum_d q_d \log(q_d / u_d)`, with :math:`q_d` the share of domain d in
    the batch and :math:`u_d` the mean weight of its expert. A router that is always right has a
    balance of zero, whatever the mix of domains; a loss that asked for equal use of all experts
    would contradict the domains.

    Args:
        logits: (batch, experts).
        domains: (batch,), the number of each row's expert.
    """
    mix = F.one_hot(domains, logits.shape[-1]).to(logits.dtype).mean(0)
    used = logits.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(logits))).log()
    return RouterLoss(
        domain=F.cross_entropy(logits, domains),
        balance=F.kl_div(used, mix, reduction="sum"),
        accuracy=(logits.argmax(-1) == domains).to(logits.dtype).mean(),
    )


def check_varies(features: Tensor, what: str, ids: Sequence[object] = ()) -> None:
    """See that different texts look different to the router.

    Args:
        features: of several different texts, (texts, width).
        what: the setting `experts.router`.
        ids: token ids of the texts, to tell whether they differ at all.

    Raises:
        UserError: they all look the same, so that no router could tell domains apart.
    """
    if ids and len(set(map(str, ids))) < 2:
        return
    spread = (features - features[:1]).abs().max()
    if not spread > SAME * features.abs().max().clamp(min=1e-12):
        raise UserError(
            f"The router should see something of the text. Found that its input (experts.router="
            f"{what}) is the same for {len(features)} different texts. Set experts.router to "
            f"{'states' if what == 'embeddings' else 'embeddings'}, or use another encoder."
        )
