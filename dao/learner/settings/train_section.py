"""The settings of the training: step budget, optimizer, and the options of `weighting: dao`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dao.learner.basics.frozen import Settings
from dao.schedule import EVERY, FEW

__all__ = ["Dao", "Train", "parse_sampling"]


class Dao(Settings):
    """Options of `weighting: dao`; `equal` and `fixed` measure as often, too."""

    source: Literal["auto", "params", "rep"] = "auto"
    """Gradient norms over the shared parameters (`params`) or at the pooled representation (`rep`).
    `auto`: `params` with a `refresh_every`; without one, all norms are taken at the representation,
    and compared with those over the parameters in turn."""
    rep_norm: Literal["adapter", "frobenius"] = "adapter"
    """Which norm stands for a gradient at the representation: that of a linear layer laid on top of
    it, which follows the norm over the parameters (`adapter`), or the plain one (`frobenius`)."""
    alpha: float = Field(1.0, ge=0, le=1)
    """How far gradients are evened out: 1 gives all the same norm, 0 gives constant weights."""
    ema: float = Field(0.9, ge=0, lt=1)
    """Smoothing of the measured norms, on a log scale: old ones fade over about 1 / (1 - ema)
    measurements; 0 keeps the last one alone."""
    refresh_every: int | None = Field(None, ge=1)
    """Steps between measurements of all tasks; null: as often as keeps the cost of a step within a
    few percent, which is every step at the representation for up to three tasks, else every 10."""
    max_ratio: float | None = Field(None, gt=1)
    """Upper bound of largest / smallest weight; null: no bound."""
    total: Literal["tasks", "one", "keep", "unit"] = "tasks"
    """The weights sum to the number of tasks or to 1; or the weighted gradient norms sum to what
    the norms sum to (`keep`) or to 1 (`unit`), for optimizers that follow the gradient's size."""
    absent: Literal["hold", "renormalize"] = "hold"
    """With a task missing in a batch, the others keep their weights (`hold`), or share the sum of
    all weights among themselves (`renormalize`)."""
    priors: dict[str, float] = Field(default_factory=dict)
    """Task -> what it is worth, by which its weight is multiplied; 1 where none is given."""
    rules: Literal[1, 2, 3] = 3
    """How `source` and `refresh_every` are read. 2: null stands for 50 with up to three tasks,
    whose norms `auto` then takes over the parameters. 1: the same, and `params` and 50, which were
    the defaults, stand for `auto` and null."""

    def measured(self, tasks: int) -> dict[str, Any]:
        """`source` and `refresh_every` of a run with so many tasks, as rules 3 spell them.

        Example:
            >>> Dao(rules=2).measured(2), Dao().measured(2)["refresh_every"]
            ({'source': 'params', 'refresh_every': 50}, None)
        """
        source, every = self.source, self.refresh_every
        if self.rules < 3 and every is None and tasks <= FEW:
            every = EVERY
        if every is not None and source == "auto":
            source = "params"
        return {"source": source, "refresh_every": every}

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


class Train(Settings):
    """The step budget and the optimizer (AdamW, linear warm-up, then a schedule)."""

    epochs: int = Field(4, ge=1)
    """Passes over the training rows; they are the step budget, which every schedule spans."""
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
    """Highest learning rate, reached after the warm-up. The default suits LoRA on a small encoder;
    a whole encoder (encoder.tune=full) usually needs a smaller one, such as 1e-4."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of AdamW: each step also shrinks the weights by the learning rate times this."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the budget over which the rate rises, also after each growth (then a third)."""
    schedule: Literal["linear", "cosine", "step", "constant", "plateau"] = "linear"
    """How the rate falls after the warm-up; without a floor, `linear` and `cosine` end at 0."""
    step_size: int = Field(1, ge=1)
    """With schedule=step: epochs after which the rate is multiplied by `gamma`, again and again."""
    plateau: int = Field(2, ge=0)
    """With schedule=plateau: so many validations without a new best may pass; at the next one in a
    row the rate is multiplied by `gamma`, and the count begins anew. It is the `patience` of
    torch's ReduceLROnPlateau. A growth of dendrites puts the rate back to its peak."""
    gamma: float = Field(0.1, gt=0, le=1)
    """With schedule=step or plateau: what the rate is multiplied by each time."""
    rate_floor: float = Field(0.0, ge=0, le=1)
    """Share of the peak rate below which no schedule falls; warm-up begins below it."""
    clip: float = Field(1.0, gt=0)
    """Largest total gradient norm."""
    validations_per_epoch: int = Field(2, ge=1)
    """How often in an epoch the model is measured on the validation rows; the best one is kept."""
    select_weights: dict[str, float] = Field(default_factory=dict)
    """Task -> its weight in the mean score that selects the model; 1 where none is given."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop after this many validations without a new best; null: train all epochs. The learning
    rate falls towards the end of all epochs either way."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints; there is one at every validation as well."""
    log_every: int = Field(10, ge=1)
    """Steps between readings from the device; the history has a row for every step all the same.
    Where norms are measured, which `dao`, `equal` and `fixed` do at every step with up to three
    tasks, the device is read for that."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """At a loss or gradient that is NaN or infinite: stop, or leave the step out and count it."""
    keep_checkpoint: bool = False
    """Keep the last checkpoint of a finished run."""
    page: bool | None = None
    """Write the page `report.html` into the run folder when training ends, which takes a second or
    two; null: only for a run by itself, not for those of an experiment or a search.
    `dao evaluate RUN --format html` writes it at any time."""
    track: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = ()
    """Trackers that are told of every step, validation and growth, and of the test figures."""

    @field_validator("track")
    @classmethod
    def _each_once(cls, track: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(track)) < len(track):
            raise ValueError(f"should name each tracker once, not {', '.join(track)}")
        return track


def parse_sampling(text: str) -> float:
    """The temperature that `train.sampling` names: 1 for `proportional`, infinity for `equal`.

    Raises:
        ValueError: there is no such sampling.

    Example:
        >>> [parse_sampling(t) for t in ("proportional", "temperature:2.5", "equal")]
        [1.0, 2.5, inf]
    """
    named = {"proportional": 1.0, "equal": float("inf")}
    if text in named:
        return named[text]
    kind, _, number = text.partition(":")
    try:
        temperature = float(number) if kind == "temperature" else 0.0
    except ValueError:
        temperature = 0.0
    if not temperature >= 1:  # NaN included
        raise ValueError(
            "should be proportional, equal, or temperature:T with T from 1 on, such as "
            "temperature:3"
        )
    return temperature
