"""The settings of the encoder: which one, its precision, LoRA on it, or one made from scratch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from dao.learner.basics.frozen import Settings

__all__ = ["Encoder", "Lora", "Scratch"]


class Lora(Settings):
    """Low-rank adapters on the frozen encoder (Hu et al. 2021), made by peft."""

    r: int = Field(8, ge=1)
    """Rank: the width of both matrices. A higher one trains more parameters."""
    alpha: float = Field(16, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapters' inputs that is set to zero at random while they train."""
    targets: tuple[str, ...] = ()
    """Linear layers by name; empty: a proven list for the architecture."""
    folded: bool = True
    """One matrix product per layer where that is exact, instead of peft's three."""
    last_layers: int | None = Field(None, ge=1)
    """Adapt only this many of the last transformer layers; null: all of them."""


class Scratch(Settings):
    """A small encoder of random weights, and a tokenizer, made from the training texts."""

    when: Literal["never", "offline", "always"] = "never"
    """`offline`: where the hub model `encoder.name` is neither on the disk nor to be fetched."""
    architecture: Literal["bert", "phi"] = "bert"
    """`bert` reads a text in both directions; `phi` is causal, each token sees those before it."""
    layers: int = Field(2, ge=1)
    """Transformer layers."""
    width: int = Field(128, ge=1)
    """Numbers per token: the width of the token states."""
    heads: int = Field(2, ge=1)
    """Attention heads; their number divides the width."""
    intermediate: int = Field(512, ge=1)
    """Width inside the feed-forward blocks."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout of token states and attention; null: the architecture's own, .1 for bert and 0 for
    phi. With tune=lora it acts while the encoder is pretrained, and is taken out afterwards."""
    tokenizer: Literal["wordpiece", "characters"] = "wordpiece"
    """`characters`: each character is a token, which suits Chinese."""
    vocabulary: int = Field(8000, ge=16)
    """Entries at most; word pieces spend two on each character, the frequent ones first."""
    pretrain_epochs: int = Field(0, ge=0)
    """Passes of language modelling over the training texts, masked (bert) or causal (phi)."""
    pretrain_lr: float = Field(1e-3, gt=0)
    """Highest learning rate of the language modelling."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the weights and the language modelling, so that runs on the same training texts share
    the encoder; without `pretrain_epochs`, weights start from the run's own seed."""

    @model_validator(mode="after")
    def _divides(self) -> Scratch:
        # Phi turns half of each head, in pairs.
        unit = self.heads * (4 if self.architecture == "phi" else 1)
        if self.width % unit:
            raise ValueError(
                f"`width` should be a multiple of {unit} for {self.architecture} with {self.heads} "
                f"heads. Found {self.width}"
            )
        return self


class Encoder(Settings):
    """The shared text encoder."""

    name: str = "all-MiniLM-L6-v2"
    """Hub id, folder (kept by its full path), or the embedded all-MiniLM-L6-v2."""
    pooling: Literal["auto", "mean", "last", "first"] = "auto"
    """How token states become one vector; auto: last token of a causal model, else mean."""
    max_length: int = Field(128, ge=4)
    """Tokens per text; longer texts are cut, and counted before training."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Keep the frozen weights in 4 bits (nf4) or 8 bits (int8), through bitsandbytes."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Compute type; auto: bf16 where the hardware multiplies it faster, else fp32."""
    gradient_checkpointing: bool = False
    """Compute the states of the layers again in the backward pass in place of keeping them: less
    memory for about a third more time."""
    tune: Literal["lora", "full"] = "lora"
    """What trains: adapters on frozen weights, or all weights (for small encoders)."""
    prefix_cache: bool = False
    """Run the frozen layers below `lora.last_layers` once per row and keep their states on disk."""
    lora: Lora = Lora()
    scratch: Scratch = Scratch()

    @field_validator("precision", mode="before")
    @classmethod
    def _no_fp16(cls, precision: object) -> object:
        if precision in ("fp16", "float16", "half"):
            raise ValueError("fp16 overflows in Phi's attention; use 'auto', 'fp32' or 'bf16'")
        return precision
