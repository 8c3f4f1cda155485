"""The sections of a run's settings, each a frozen model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from torch import nn

from dao.learner.basics.frozen import Settings

__all__ = [
    "Dao",
    "Dendrites",
    "Encoder",
    "Experts",
    "Lora",
    "Scratch",
    "Train",
    "check_budget",
]

EXPERT = re.compile(r"[\w-]+")
# By figures of all rows, peft, the stages, merging.
TAKEN = ("all", "default", "heads", "joint", "merged", "router")
Fraction = Annotated[float, Field(gt=0, lt=1)]
WHOLE_BUDGET = {
    "dendrites": "growths and restarts are at points of a fixed number of steps",
    "experts": "the arm with a single LoRA takes as many steps as all stages together",
}


class Lora(Settings):
    """Low-rank adapters on the frozen encoder (Hu et al. 2021), made by peft."""

    r: int = Field(8, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
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
    layers: int = Field(2, ge=1)
    width: int = Field(128, ge=1)
    """Of the token states."""
    heads: int = Field(2, ge=1)
    """Of the attention; their number divides the width."""
    intermediate: int = Field(512, ge=1)
    """Width inside the feed-forward blocks."""
    tokenizer: Literal["wordpiece", "characters"] = "wordpiece"
    """`characters`: each character is a token, which suits Chinese."""
    vocabulary: int = Field(8000, ge=16)
    """Entries at most; word pieces spend two on each character, the frequent ones first."""
    pretrain_epochs: int = Field(0, ge=0)
    """Passes of language modelling over the training texts, masked (bert) or causal (phi)."""
    pretrain_lr: float = Field(1e-3, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the weights and the language modelling, so that runs on the same training texts share the
    encoder; without `pretrain_epochs`, weights start from the run's own seed."""

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
    """Frozen weights through bitsandbytes."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Compute type; auto: bf16 where the hardware multiplies it faster, else fp32."""
    gradient_checkpointing: bool = False
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


class Dao(Settings):
    """Options of `weighting: dao`; `equal` and `fixed` measure as often, too."""

    source: Literal["auto", "params", "rep"] = "auto"
    """Gradient norms over the shared parameters (`params`) or at the pooled representation (`rep`).
    `auto`: `params`, but with more than three tasks and no `refresh_every`, all norms are taken at
    the representation every 10 steps, and compared with those over the parameters in turn."""
    rep_norm: Literal["adapter", "frobenius"] = "adapter"
    alpha: float = Field(1.0, ge=0, le=1)
    ema: float = Field(0.9, ge=0, lt=1)
    refresh_every: int | None = Field(None, ge=1)
    """Steps between measurements of all tasks; null: 50 for up to three tasks, and for more of them
    as often as keeps the cost of a step flat."""
    max_ratio: float | None = Field(None, gt=1)
    """Upper bound of largest / smallest weight; null: no bound."""
    total: Literal["tasks", "one", "keep", "unit"] = "tasks"
    """The weights sum to the number of tasks or to 1; or the weighted gradient norms sum to what
    the norms sum to (`keep`) or to 1 (`unit`), for optimizers that follow the gradient's size."""
    absent: Literal["hold", "renormalize"] = "hold"
    priors: dict[str, float] = Field(default_factory=dict)
    rules: Literal[1, 2] = 2
    """How `source` and `refresh_every` are read. 1: as in runs that began when `params` and 50 were
    the defaults and stood for what `auto` and null say now."""

    @model_validator(mode="before")
    @classmethod
    def _read_by_rules(cls, given: object) -> object:
        if not isinstance(given, Mapping) or given.get("rules") != 1:
            return given
        source, every = given.get("source", "params"), given.get("refresh_every", 50)
        return {
            **given,
            "source": "auto" if source == "params" else source,
            "refresh_every": None if every == 50 else every,
            "rules": 2,
        }


class Dendrites(Settings):
    """Artificial dendrites by perforatedai."""

    enabled: bool = False
    control: Literal["none", "sham", "capacity", "restart"] = "none"
    """An arm to compare with: `sham`, the same growths, but dendrites never train; `restart`, none,
    but the best weights back and a new optimizer at the same points; `capacity`, that and LoRA's
    rank raised until as many parameters train."""
    where: Literal["heads", "lora_B", "lora_B+heads", "lora", "linear", "wrapped-lowrank"] = (
        "lora_B+heads"
    )
    """Which layers get them; `linear`: every linear layer of an encoder with tune=full;
    `wrapped-lowrank`: every layer with LoRA, as a whole, and each dendrite is of LoRA's rank."""
    grow_at: tuple[Fraction, ...] = (0.5,)
    """Points of the step budget at which a set of dendrites is added, ascending."""
    patience: int | None = Field(None, ge=1)
    """Instead of `grow_at`: add a set after this many validations without a new best."""
    max_sets: int = Field(1, ge=1)
    """Sets to add at most; with `patience` only."""
    activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid"
    init_scale: float = Field(0.01, gt=0)
    lr: float = Field(1.0, gt=0)
    """Learning rate of the dendrites' own weights and gates, as a multiple of the model's rate at
    every step; without effect in the controls, which train no dendrites."""
    graph: bool = True
    """Draw perforatedai's own picture, PAI/PAI.png, at the end (a few seconds)."""

    @field_validator("grow_at")
    @classmethod
    def _ascending(cls, points: tuple[float, ...]) -> tuple[float, ...]:
        if not points or list(points) != sorted(set(points)):
            raise ValueError("should be one or more ascending fractions of the budget")
        return points

    @model_validator(mode="after")
    def _control(self) -> Dendrites:
        if self.control != "none" and self.patience is not None:
            raise ValueError(
                f"control {self.control!r} should have growths at fixed points to copy. Found "
                f"`patience`, with which they depend on the run. Give grow_at instead"
            )
        if self.control != "none" and not self.enabled:
            raise ValueError(
                f"control {self.control!r} should stand in for dendrites. Found none switched on. "
                f"Add --dendrites, or leave `control` out"
            )
        return self

    @property
    def grown(self) -> bool:
        """Whether perforatedai is at work in this arm."""
        return self.enabled and self.control in ("none", "sham")

    @property
    def sets(self) -> int:
        """Sets of dendrites that are added at most."""
        return self.max_sets if self.patience else len(self.grow_at)


class Experts(Settings):
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
    """Of the router's cross-entropy with the true domain, beside the tasks' losses, whose weights
    are as large as `dao.total` makes them."""
    balance_weight: float = Field(0.05, ge=0)
    """Of the divergence of the experts' mean weights from the batch's own mix of domains."""
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
    def _control(self) -> Experts:
        if self.control != "none" and not self.names:
            raise ValueError(
                "control 'single' should stand in for experts. Found no names. Add --experts, or "
                "leave `control` out"
            )
        return self


class Train(Settings):
    """The step budget and the optimizer (AdamW, linear warm-up, then a schedule)."""

    epochs: int = Field(4, ge=1)
    batch_size: int = Field(32, ge=1)
    """Rows per batch."""
    batch_tokens: int | None = Field(None, ge=1)
    """Padded tokens per batch in place of a row count: rows times the longest of them."""
    accumulate: int = Field(1, ge=1)
    """Batches per optimizer step: gradients add up to those of one batch of all their rows."""
    sampling: str = "proportional"
    """How often each task's rows come: proportional, temperature:T, equal."""
    packing: bool = False
    """Rows of a batch share lines, kept apart by the attention mask, in place of padding."""
    lr: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the budget over which the rate rises, also after each growth (then a third)."""
    schedule: Literal["linear", "cosine", "step", "constant"] = "linear"
    """How the rate falls after the warm-up; all but `step` and `constant` end at 0."""
    step_size: int = Field(1, ge=1)
    """With schedule=step: epochs after which the rate is multiplied by `gamma`, again and again."""
    gamma: float = Field(0.1, gt=0, le=1)
    clip: float = Field(1.0, gt=0)
    """Largest total gradient norm."""
    validations_per_epoch: int = Field(2, ge=1)
    select_weights: dict[str, float] = Field(default_factory=dict)
    """Task -> its weight in the mean score that selects the model; 1 where none is given."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop after this many validations without a new best; null: train all epochs. The learning
    rate falls towards the end of all epochs either way."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints; there is one at every validation as well."""
    log_every: int = Field(10, ge=1)
    """Steps between readings from the device; the history has a row for every step all the same."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """At a loss or gradient that is NaN or infinite: stop, or leave the step out and count it."""
    keep_checkpoint: bool = False
    """Keep the last checkpoint of a finished run."""


def check_budget(train: Train, dendrites: Dendrites, experts: Experts) -> None:
    """Refuse a number of steps, or a schedule, that does not fit what is trained.

    Raises:
        ValueError: `train.early_stopping` comes with dendrites or experts, or experts come with a
            schedule that counts epochs.
    """
    if train.early_stopping is not None:
        asked = {"dendrites": dendrites.enabled, "experts": bool(experts.names)}
        for what in (what for what, switched_on in asked.items() if switched_on):
            raise ValueError(
                f"`train.early_stopping` should be left out with {what}: {WHOLE_BUDGET[what]}. "
                f"Found {train.early_stopping}. Leave one of the two out"
            )
    if experts.names and train.schedule == "step":
        raise ValueError(
            "`train.schedule` should fall with the steps of a stage, with experts and with the "
            "single LoRA beside them. Found step, which counts epochs: a budget of many short ones "
            "would end at a rate of almost 0. Set train.schedule to linear, cosine or constant"
        )
