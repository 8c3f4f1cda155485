"""The experts of a model: which of them act, which of them train, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.encoder.gated import Gate, GatedLinear
from dao.learner.model.router import Router, RouterLoss, mixing_weights, router_loss
from dao.learner.storage.checkpoint import check_fit
from dao.learner.storage.files import read_tensors, replace_folder, write_tensors

__all__ = [
    "EXPERTS",
    "MERGED",
    "Experts",
    "expert_columns",
    "expert_tensors",
    "load_experts",
    "save_experts",
    "train_only",
]

EXPERTS = "experts"  # key of the experts' weights among the outputs; folder of their adapters
MERGED = "merged"  # name of the one adapter that all experts are merged into
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ROUTER = "router.safetensors"


class Experts(nn.Module):
    """The router of a model with a `GatedLinear` in each adapted layer, and its last decision.

    Args:
        gate: of these layers.
        width: of a token's embedding, or of its state.
        reads: what the router sees: the mean over the tokens of their `embeddings`, or of the last
            hidden `states` without experts.
        routing: in evaluation, `soft` or `hard`.

    Attributes:
        features: what the router saw in the last forward, (batch, width); no gradient flows here.
        weights: of the experts in the last forward, (batch, experts); None where one acted alone.
        held: weights, (1, experts), that every row gets in place of the router's; mostly None.
    """

    def __init__(
        self,
        gate: Gate,
        width: int,
        reads: Literal["embeddings", "states"],
        routing: Literal["soft", "hard"],
    ) -> None:
        super().__init__()
        self.gate, self.reads, self.routing = gate, reads, routing
        self.router = Router(width, len(gate.names))
        self.features: Tensor | None = None
        self.weights: Tensor | None = None
        self.alone: str | None = None
        self.held: Tensor | None = None

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within the block, every row gets the weights of the last forward, which had one row.

        No gradient flows through what the router sees, so that without this the output of a model
        would depend on its input in a way that gradients do not tell.
        """
        self.held = self.weights
        try:
            yield
        finally:
            self.held = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the experts, in the order of the weights."""
        return self.gate.names

    def route(
        self, embed: Callable[[], Tensor], states: Callable[[], Tensor], mask: Tensor
    ) -> None:
        """Set the gate for a batch.

        Args:
            embed: gives the tokens' embeddings, (batch, length, width).
            states: runs the encoder; gives their last states, (batch, length, width).
            mask: (batch, length), 1 on tokens.
        """
        self.features = self.weights = None
        if self.alone is not None:
            self.gate.let_alone(self.alone)
            return
        if self.held is not None:
            self.weights = self.held.expand(len(mask), -1)
            self.gate.open(self.weights)
            return
        self.features = self.look(embed, states, mask)
        routing = "soft" if self.training else self.routing
        self.weights = mixing_weights(self.router(self.features), routing)
        self.gate.open(self.weights)

    @torch.no_grad()
    def look(
        self, embed: Callable[[], Tensor], states: Callable[[], Tensor], mask: Tensor
    ) -> Tensor:
        """What the router sees of a batch, (batch, width), fp32; arguments as for `route`."""
        self.gate.close()
        tokens = (embed if self.reads == "embeddings" else states)().float()
        weights = mask.unsqueeze(-1).to(tokens.dtype)
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)

    def loss(self, domains: Tensor) -> RouterLoss:
        """`router_loss` of the last batch; its gradient reaches the router and nothing else."""
        assert self.features is not None
        return router_loss(self.router(self.features), domains)


def expert_columns(weights: Tensor, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns for a table of predictions: the heaviest expert, and the weight of each.

    Example:
        >>> expert_columns(torch.tensor([[0.25, 0.75]]), ["news", "forum"])
        {'expert': ['forum'], 'expert_news': [0.25], 'expert_forum': [0.75]}
    """
    columns: dict[str, list[Any]] = {"expert": [names[i] for i in weights.argmax(1).tolist()]}
    for number, name in enumerate(names):
        columns[f"expert_{name}"] = weights[:, number].tolist()
    return columns


def train_only(encoder: PeftModel, names: Sequence[str], experts: Experts, *, router: bool) -> None:
    """Let these experts train and freeze the others; `router` says whether the router trains."""
    encoder.set_requires_grad(list(experts.names), False)
    if names:
        encoder.set_requires_grad(list(names), True)
    experts.router.requires_grad_(router)


def expert_tensors(encoder: PeftModel, name: str) -> dict[str, Tensor]:
    """The tensors of an adapter by the names that they have in its file.

    Raises:
        UserError: peft mistakes the expert's name for a part of the encoder's.
    """
    layers = sum(isinstance(module, GatedLinear) for module in encoder.modules())
    found: dict[str, Tensor] = get_peft_model_state_dict(
        encoder, adapter_name=name, save_embedding_layers=False
    )
    if len(found) != 2 * layers:
        raise UserError(
            f"`experts.names` should not be names of the encoder's parts, or of each other. Found "
            f"{name!r}, with {len(found)} tensors in {layers} layers. Rename that domain."
        )
    return found


def save_experts(encoder: PeftModel, experts: Experts, base_name: str, folder: Path) -> None:
    """Write `experts/NAME/`, a plain peft adapter each, and `router.safetensors`."""
    for name in experts.names:
        # The name, not the place on this machine, is what makes the adapter loadable elsewhere.
        encoder.peft_config[name].base_model_name_or_path = base_name

    def fill(place: Path) -> None:
        names = list(experts.names)
        encoder.save_pretrained(place, selected_adapters=names, save_embedding_layers=False)
        (place / "README.md").unlink(missing_ok=True)

    replace_folder(folder / EXPERTS, fill)
    write_tensors(folder / ROUTER, experts.router.state_dict())


def load_experts(encoder: PeftModel, experts: Experts, folder: Path) -> None:
    """Read what `save_experts` wrote; every tensor must be there and fit.

    Raises:
        UserError: a file or tensor is missing, superfluous, of another shape or not finite.
    """
    for name in experts.names:
        place = folder / EXPERTS / name
        found, wanted = read_tensors(place / ADAPTER_WEIGHTS), expert_tensors(encoder, name)
        check_fit(found, {key: tuple(tensor.shape) for key, tensor in wanted.items()}, place)
        set_peft_model_state_dict(encoder, found, adapter_name=name)
    found = read_tensors(folder / ROUTER)
    shapes = {key: tuple(tensor.shape) for key, tensor in experts.router.state_dict().items()}
    check_fit(found, shapes, folder / ROUTER)
    experts.router.load_state_dict(found)
