"""What a run is made of: frozen models, read as defaults <- YAML <- KEY=VALUE <- flags."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from dao.errors import UserError
from dao.learner.data_section import Data
from dao.learner.folders import absolute
from dao.learner.sampling import parse_sampling
from dao.learner.sections import (
    ClassificationOptions,
    Dao,
    Dendrites,
    Encoder,
    Experts,
    RegressionOptions,
    Settings,
    Train,
)
from dao.learner.weighting_spec import accumulates, parse_weighting
from dao.learner.words import Typed, read_value, read_yaml, settled

__all__ = ["Config", "load_config", "parse_overrides", "placed"]

COLUMN = "data.where."


class Config(Settings):
    """A whole run."""

    name: str = ""
    """First folder under results/; empty: after the data."""
    tasks: tuple[Literal["cls", "reg"], ...] = ("cls", "reg")
    weighting: str = "equal"
    """Of the losses: dao, equal, fixed:W,W,... (a weight per task), gls, uw, uw_so[:T], dwa[:T],
    rlw, gradnorm[:ALPHA], famo, dbmtl[:BETA], imtl_l, torchjd:AGGREGATOR."""
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"
    output: str = ""
    """The run folder; empty: results/NAME/ARM/seed=N."""
    cache: str = ""
    """Folder for what runs can share; empty: $XDG_CACHE_HOME/dao or ~/.cache/dao."""
    encoder: Encoder = Encoder()
    data: Data = Data()
    cls: ClassificationOptions = ClassificationOptions()
    reg: RegressionOptions = RegressionOptions()
    dao: Dao = Dao()
    dendrites: Dendrites = Dendrites()
    experts: Experts = Experts()
    train: Train = Train()

    @field_validator("cache", mode="before")
    @classmethod
    def _nothing_is_empty(cls, cache: object) -> object:
        return "" if cache is None else cache  # YAML reads `cache=` as null

    @field_validator("tasks", mode="before")
    @classmethod
    def _split(cls, tasks: object) -> object:
        return tuple(t.strip() for t in tasks.split(",")) if isinstance(tasks, str) else tasks

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError("`tasks` should name each task once, for example cls,reg")
        try:
            parse_weighting(self.weighting, self.tasks)
        except ValueError as error:
            raise ValueError(f"`weighting` {error}. Found {self.weighting!r}") from None
        try:
            parse_sampling(self.train.sampling)
        except ValueError as error:
            raise ValueError(f"`train.sampling` {error}. Found {self.train.sampling!r}") from None
        if self.train.accumulate > 1 and not accumulates(self.weighting):
            raise ValueError(
                f"`weighting` should be dao, equal or fixed with train.accumulate above 1. Found "
                f"{self.weighting!r}, which needs the losses of all rows of a step at once. Set "
                f"train.accumulate to 1, and raise train.batch_size instead"
            )
        unknown = set(self.dao.priors) - set(self.tasks)
        if unknown:
            raise ValueError(f"`dao.priors` names {sorted(unknown)}, which is not among `tasks`")
        _check_tuning(self.encoder, self.dendrites)
        if self.experts.names:
            _check_experts(self)
        if self.encoder.prefix_cache and self.encoder.lora.last_layers is None:
            raise ValueError(
                "`encoder.prefix_cache` should have frozen layers to cache. Found adapters in "
                "every layer. Set encoder.lora.last_layers, for example to half of the layers"
            )
        if self.encoder.prefix_cache and self.train.packing:
            raise ValueError(
                "`encoder.prefix_cache` and `train.packing` exclude each other: cached states are "
                "kept row by row. Leave one of them out"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The tasks whose columns are read: that of the score as well, where it is cut."""
        cut = "cls" in self.tasks and self.cls.cut is not None
        return tuple(dict.fromkeys((*self.tasks, "reg"))) if cut else self.tasks

    @property
    def dendrite_rank(self) -> int | None:
        """Rank of the dendrites; None where each is a layer like the one it is on."""
        return self.encoder.lora.r if self.dendrites.where == "wrapped-lowrank" else None

    @property
    def routed(self) -> bool:
        """Whether this arm has experts and a router."""
        return bool(self.experts.names) and self.experts.control == "none"

    @property
    def arm(self) -> str:
        """The arm's name: tasks, then what is switched on, for example cls+reg-dao."""
        weighting = [] if self.weighting == "equal" else [re.sub(r"[^\w.]+", "_", self.weighting)]
        kind = "dendrites" if self.dendrites.control == "none" else self.dendrites.control
        dendrites = [kind] if self.dendrites.enabled else []
        experts = ["experts" if self.routed else "single"] if self.experts.names else []
        return "-".join(["+".join(self.tasks), *weighting, *dendrites, *experts])

    @property
    def data_name(self) -> str:
        """What results are filed under: `name`, or the first source without folder and suffix."""
        source = self.data.sources[0] if self.data.sources else "headlines"
        return self.name or Path(source).stem

    @property
    def folder(self) -> Path:
        """The run folder."""
        if self.output:
            return Path(self.output)
        return Path("results") / self.data_name / self.arm / f"seed={self.seed}"

    @property
    def cache_folder(self) -> Path:
        """Where runs share what is costly to compute."""
        if self.cache:
            return Path(self.cache).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dao"

    def to_yaml(self) -> str:
        """The effective settings; reading them back gives an equal Config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _check_tuning(encoder: Encoder, dendrites: Dendrites) -> None:
    if encoder.tune == "full":
        if encoder.quantize != "none" or encoder.prefix_cache:
            raise ValueError(
                "`encoder.tune=full` should train ordinary weights of every layer. Found "
                "`quantize` or `prefix_cache`, which freeze some. Leave them out, or tune=lora"
            )
        needs_lora = dendrites.where not in ("linear", "heads") or dendrites.control == "capacity"
        if dendrites.enabled and needs_lora:
            raise ValueError(
                "`encoder.tune=full` leaves no LoRA to put dendrites on or to widen. Found "
                f"where={dendrites.where!r}, control={dendrites.control!r}. Set dendrites.where to "
                "linear or heads, and another control"
            )
        return
    scratch = encoder.scratch
    if scratch.when == "always" and not scratch.pretrain_epochs:
        raise ValueError(
            "`encoder.tune=lora` should adapt weights that have learnt something. Found "
            "encoder.scratch.when=always without pretrain_epochs, which leaves the frozen weights "
            "random. Set encoder.tune=full, or encoder.scratch.pretrain_epochs to 1 or more"
        )
    if dendrites.where == "linear":
        raise ValueError(
            "`dendrites.where=linear` should find trained linear layers. Found a frozen encoder: "
            "each dendrite would copy frozen weights, 840 million of them for Phi-2, 1.7 GB in "
            "bf16. Set encoder.tune=full for a small encoder, or dendrites.where=lora_B+heads"
        )


def _check_experts(cfg: Config) -> None:
    found = {
        "encoder.tune=full, which has no LoRA": cfg.encoder.tune == "full",
        "encoder.prefix_cache": cfg.encoder.prefix_cache,
        "train.packing, where rows share a line": cfg.train.packing,
        "dendrites": cfg.dendrites.enabled,
    }
    for what, switched_on in found.items():
        if switched_on:
            raise ValueError(
                f"`experts` should be LoRA adapters that are mixed row by row. Found {what}. Leave "
                f"one of them out"
            )
    if cfg.train.schedule == "step":
        raise ValueError(
            "`train.schedule` should fall with the steps of a stage, with experts and with the "
            "single LoRA beside them. Found step, which counts epochs: a budget of many short ones "
            "would end at a rate of almost 0. Set train.schedule to linear, cosine or constant"
        )


def load_config(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
) -> Config:
    """Merge defaults <- YAML file <- `KEY=VALUE` overrides <- flags (dotted key to value).

    The encoder's folder, where it is one, gets its full path.

    Args:
        path: The YAML file.
        overrides: As they were typed.
        flags: Dotted keys to values.
        before: The same, for what the file leaves out, in place of the defaults.

    Raises:
        UserError: naming every key that is unknown or has an unusable value.
    """
    merged: dict[str, Any] = {}
    for key, value in (before or {}).items():
        _set(merged, key, value)
    for key, value in (_read_yaml(path) if path else {}).items():
        old = merged.get(key)
        merged[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    for key, value in [*parse_overrides(overrides), *(flags or {}).items()]:
        _set(merged, key, value)
    try:
        cfg = Config.model_validate(settled(Config, merged))
    except RecursionError:
        raise UserError("A setting should have an end. Found one that contains itself.") from None
    except ValidationError as error:
        explained = "; ".join(_explain(e) for e in error.errors())
        raise UserError(" ".join(explained.split())) from None
    return placed(cfg)


def placed(cfg: Config) -> Config:
    """The same settings with the full path of the encoder's folder, where it is one."""
    encoder = cfg.encoder.model_copy(update={"name": absolute(cfg.encoder.name)})
    return cfg if encoder == cfg.encoder else cfg.model_copy(update={"encoder": encoder})


def parse_overrides(overrides: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Split `KEY=VALUE` strings; values are YAML (1e-3, true, [0.3, 0.6], null) or text.

    The setting decides which: names and cells of the user's data stay as they were typed.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"An override should look like KEY=VALUE. Found {text!r}.")
        yield key, read_value(value)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"The config file should exist. Found nothing at {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The config file {path} cannot be read: {error}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"The config file {path} should be YAML. Found: {message}.") from None
    if not isinstance(content, dict | None):
        found = repr(getattr(content, "value", content))[:80]
        raise UserError(f"The config file {path} should hold KEY: VALUE pairs. Found {found}.")
    return content or {}


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:  # noqa: ANN401
    # A column's name may have dots of its own.
    *parents, leaf = dotted.split(".", 2) if dotted.startswith(COLUMN) else dotted.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if isinstance(child, Typed):
            child = tree[parent] = child.value
        if not isinstance(child, dict):
            where = " ".join(dotted.split())
            raise UserError(f"`{where}` cannot be set: `{parent}` has no settings below it.")
        tree = child
    tree[leaf] = value


def _explain(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, list(_keys(Config)), n=1)
        hint = f" Did you mean `{near[0]}`?" if near else " `train.py --dry-run` prints them all."
        return f"`{key}` is not a setting.{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message}. Found {error['input']!r}" if key else message


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        nested = [kind, *get_args(kind)]
        yield prefix + name
        for part in nested:
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, f"{prefix}{name}.")
