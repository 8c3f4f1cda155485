"""The settings of the experts: a LoRA per domain and the router that mixes them."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator
from torch import nn

from dao.learner.basics.frozen import Settings

__all__ = ["ExpertSettings"]

EXPERT = re.compile(r"[\w-]+")
# Names that figures of all rows, peft, the stages of training and merging use already.
TAKEN = ("all", "default", "heads", "joint", "merged", "router")


class ExpertSettings(Settings):
    """A LoRA expert per domain and a router that mixes them; off without names."""

    names: tuple[str, ...] = ()
    """The domains, as the column `data.domain` spells them: an expert each."""
    control: Literal["none", "single"] = "none"
    """`single`: the arm to compare with. One LoRA of at least as many trainable parameters as the
    experts and the router together, on all rows, for as many steps as all stages together."""
    domain_epochs: int = Field(2, ge=1)
    """Stage 1: epochs that each expert trains alone, on the rows of its domain."""
    router_warmup_steps: int = Field(500, ge=1)
    """Stage 2: steps that router and heads train while the experts are frozen. Stage 3, all of it
    together, takes `train.epochs`."""
    router: Literal["embeddings", "states"] = "embeddings"
    """What the router sees, as the mean over a text's tokens: the embedding layer's output, or the
    last hidden states of a pass without experts, which costs that pass."""
    routing: Literal["soft", "hard"] = "soft"
    """In predictions: all experts by their weights, or the heaviest alone. Training is soft."""
    router_weight: float = Field(1.5, ge=0)
    """Weight of the router's cross-entropy with the true domain, beside the tasks' losses, whose
    weights are as large as `dao.total` makes them."""
    balance_weight: float = Field(0.05, ge=0)
    """Weight of the divergence of the experts' mean weights from the batch's own mix of domains."""
    router_lr: float = Field(0.01, gt=0)
    """Highest learning rate of the router; that of everything else is `train.lr`."""

    @field_validator("names", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return tuple(n.strip() for n in names.split(",")) if isinstance(names, str) else names

    @field_validator("names")
    @classmethod
    def _usable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) == 1 or len(set(names)) < len(names):
            raise ValueError("should be two or more domains, each once, such as news,forum")
        # They become names of modules, of folders and of columns; peft takes parts of its prefix
        # lora_ for its own.
        odd = [n for n in names if not EXPERT.fullmatch(n) or n in TAKEN or n in "lora_"]
        if odd:
            raise ValueError(
                f"should be of letters, digits, _ and -, and not {', '.join(TAKEN)} or a part of "
                f"lora_. Rename {odd[0]!r} in the data"
            )
        if of_torch := [n for n in names if hasattr(nn.ModuleDict(), n)]:
            raise ValueError(
                f"should not be words that torch uses. Rename {of_torch[0]!r} in the data"
            )
        return names

    @model_validator(mode="after")
    def _control(self) -> ExpertSettings:
        if self.control != "none" and not self.names:
            raise ValueError(
                "control 'single' should stand in for experts. Found no names. Add --experts, or "
                "leave `control` out"
            )
        return self
