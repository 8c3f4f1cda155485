"""The settings of the dendrites: where, when and how many, or a control in their place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dao.learner.basics.frozen import Settings

__all__ = ["DendriteSettings"]

Fraction = Annotated[float, Field(gt=0, lt=1)]


class DendriteSettings(Settings):
    """Artificial dendrites by perforatedai."""

    enabled: bool = False
    """Add dendrites, or stand in for them with a `control`; `--dendrites` switches it on."""
    control: Literal["none", "sham", "capacity", "restart"] = "none"
    """An arm to compare with: `sham`, the same growths, but dendrites never train; `restart`, none,
    but the best weights back and a new optimizer at the same points; `capacity`, that and as
    many parameters elsewhere: a higher rank of LoRA, or with tune=full wider feed-forward blocks,
    whose new units change nothing at first."""
    where: Literal["heads", "lora_B", "lora_B+heads", "lora", "linear", "wrapped-lowrank"] = (
        "lora_B+heads"
    )
    """Which layers get them; `linear`: every linear layer of an encoder with tune=full;
    `wrapped-lowrank`: every layer with LoRA, as a whole, and each dendrite is of LoRA's rank."""
    grow_at: tuple[Fraction, ...] = (0.5,)
    """Points of the step budget at which a set of dendrites is added, ascending."""
    patience: int | None = Field(None, ge=1)
    """Instead of `grow_at`: add a set after this many validations without a new best."""
    growths_of: str = ""
    """Folder of a finished run with dendrites, of the same seed and data: this run grows, or puts
    its best weights back and restarts its optimizer, after the same validations. A control of a run
    with `patience` needs it, because the growths of that run are known once it has ended. `where`,
    `grow_at`, `patience` and `max_sets` have to be those of that run, and decide nothing more."""
    max_sets: int = Field(1, ge=1)
    """Sets to add at most; with `patience` only."""
    activation: Literal["sigmoid", "relu", "tanh"] = "sigmoid"
    """The function that each dendrite applies to its output."""
    init_scale: float = Field(0.01, gt=0)
    """Size of the random numbers with which the weights of new dendrites begin."""
    lr: float = Field(1.0, gt=0)
    """Learning rate of the dendrites' own weights and gates, as a multiple of the model's rate at
    every step; without effect in the controls, which train no dendrites."""
    weight_decay: float | None = Field(None, ge=0)
    """Weight decay of the dendrites' own weights and gates; null: `train.weight_decay`. AdamW
    multiplies it by the rate of each step, which for dendrites is `lr` times the model's."""
    restart_lr: float = Field(1.0, gt=0)
    """With control=restart: after the first restart the model's rate is this multiple of what it
    would be, so that larger steps, which `lr` gives to dendrites, are not taken for dendrites."""
    graph: bool | None = None
    """Draw perforatedai's own picture, PAI/PAI.png, at the end (a few seconds); null: only in one
    run of an experiment, whose report shows it."""

    @field_validator("grow_at")
    @classmethod
    def _ascending(cls, points: tuple[float, ...]) -> tuple[float, ...]:
        if not points or list(points) != sorted(set(points)):
            raise ValueError("should be one or more ascending fractions of the budget")
        return points

    @model_validator(mode="after")
    def _control(self) -> DendriteSettings:
        if self.control != "none" and self.patience is not None and not self.growths_of:
            raise ValueError(
                f"control {self.control!r} should have growths to copy. Found `patience`, with "
                f"which they depend on the run. Give growths_of=RUN with the run with dendrites, "
                f"or grow_at instead"
            )
        if self.growths_of and not self.enabled:
            raise ValueError(
                f"growths_of should come with dendrites or a control. Found {self.growths_of!r} "
                f"and none switched on. Add --dendrites, or leave it out"
            )
        if self.restart_lr != 1.0 and self.control != "restart":
            raise ValueError(
                f"restart_lr should come with control=restart alone. Found "
                f"{self.restart_lr:g} with control={self.control}. Leave it out"
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
