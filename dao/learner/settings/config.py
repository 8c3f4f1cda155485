"""What a run is made of: frozen models, read as defaults <- YAML <- KEY=VALUE <- flags."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dao.errors import UserError
from dao.learner.basics.folders import absolute
from dao.learner.basics.frozen import Settings
from dao.learner.basics.words import Typed, as_text, read_value, read_yaml, settled
from dao.learner.kinds import TaskSettings
from dao.learner.kinds.declared import (
    BUILT_IN,
    Undecided,
    check_names,
    declarations,
    settled_task,
    task_settings,
    with_columns,
)
from dao.learner.settings.data_section import Data
from dao.learner.settings.sampling_spec import parse_sampling
from dao.learner.settings.sections import Dao, Dendrites, Encoder, Experts, Train, check_budget
from dao.learner.settings.weighting_spec import accumulates, folder_part, parse_weighting

__all__ = ["Config", "load_config", "parse_overrides", "placed"]

COLUMN = "data.where."


DOMAIN = "domain"
"""The one column of the table's own that may be a task as well."""
LONGEST = 60
"""Characters of all tasks' names up to which they name the arm, and so the folder."""


class Config(Settings):
    """A whole run."""

    name: str = ""
    """First folder under results/; empty: after the data."""
    tasks: dict[str, SerializeAsAny[TaskSettings]] = Field(
        default_factory=lambda: {name: task_settings(name, {}) for name in BUILT_IN}
    )
    """What is learned, by name: kind, column and the options of the kind."""
    split_tasks: dict[str, SerializeAsAny[TaskSettings]] = Field(default_factory=dict)
    """Tasks whose targets decide the split of the data, where these are not the run's own: in an
    experiment, one task alone then has the rows that it has among the others."""
    weighting: str = "equal"
    """Of the losses: dao, equal, fixed:W,W,... (a weight per task) or fixed:TASK=W,... (1 for the
    others), gls, uw, uw_so[:T], dwa[:T], rlw, gradnorm[:ALPHA], famo, dbmtl[:BETA], imtl_l,
    torchjd:AGGREGATOR."""
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"
    output: str = ""
    """The run folder; empty: results/NAME/ARM/seed=N."""
    cache: str = ""
    """Folder for what runs can share; empty: $XDG_CACHE_HOME/dao or ~/.cache/dao."""
    encoder: Encoder = Encoder()
    data: Data = Data()
    dao: Dao = Dao()
    dendrites: Dendrites = Dendrites()
    experts: Experts = Experts()
    train: Train = Train()

    @field_validator("cache", mode="before")
    @classmethod
    def _nothing_is_empty(cls, cache: object) -> object:
        return "" if cache is None else cache  # YAML reads `cache=` as null

    @model_validator(mode="before")
    @classmethod
    def _declared(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        try:
            return _gathered(given)
        except ValueError as error:
            raise _told(str(error)) from None

    @field_validator("split_tasks", mode="before")
    @classmethod
    def _further(cls, tasks: object) -> object:
        return cls._of_their_kinds(tasks) if tasks else {}

    @field_validator("tasks", mode="before")
    @classmethod
    def _of_their_kinds(cls, tasks: object) -> object:
        try:
            named = declarations(tasks)
            taken = [*cls.model_fields, *(n for n in Data.model_fields if n != DOMAIN)]
            check_names(list(named), taken)
            return {name: task_settings(name, settings) for name, settings in named.items()}
        except ValueError as error:
            raise _told(str(error)) from None

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        try:
            parse_weighting(self.weighting, list(self.tasks))
        except ValueError as error:
            raise ValueError(f"`weighting` {error}. Found {self.weighting!r}") from None
        by_task = {"dao.priors": self.dao.priors, "train.select_weights": self.train.select_weights}
        for key, values in by_task.items():
            if unknown := sorted(set(values) - set(self.tasks)):
                raise ValueError(f"`{key}` names {unknown}, which is not among `tasks`")
        if any(weight <= 0 for weight in self.train.select_weights.values()):
            raise ValueError("`train.select_weights` should be above 0. Leave a task out for 1")
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
        _check_domain(self.columns.get(DOMAIN), self.data.domain, self.experts)
        _check_tuning(self.encoder, self.dendrites)
        if self.experts.names:
            _check_experts(self)
        check_budget(self.train, self.dendrites, self.experts)
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
    def columns(self) -> dict[str, str]:
        """Task -> the column that holds its targets; tasks of the split alone come first."""
        every = {**self.split_tasks, **self.tasks}
        return {name: settings.column for name, settings in every.items()}

    @property
    def target_columns(self) -> set[str]:
        """Columns that hold targets, of these tasks or of the built-in ones."""
        unread = {column for settings in self.tasks.values() for column in settings.unread}
        built_in = {str(task["column"]) for task in BUILT_IN.values()}
        return {*self.columns.values()} | unread | built_in

    @property
    def words_column(self) -> str | None:
        """The column of the first task that words may be targets of."""
        every = {**self.split_tasks, **self.tasks}
        return next((task.column for task in every.values() if task.takes_words), None)

    @property
    def undecided(self) -> list[str]:
        """The tasks whose kind is to be proposed from the data."""
        return [name for name, settings in self.tasks.items() if isinstance(settings, Undecided)]

    def with_tasks(self, tasks: Mapping[str, TaskSettings]) -> Config:
        """The same settings with these tasks, such as those whose kind was proposed."""
        return self.model_copy(update={"tasks": {**self.tasks, **tasks}})

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
        weighting = [] if self.weighting == "equal" else [folder_part(self.weighting)]
        kind = "dendrites" if self.dendrites.control == "none" else self.dendrites.control
        dendrites = [kind] if self.dendrites.enabled else []
        experts = ["experts" if self.routed else "single"] if self.experts.names else []
        tasks = "+".join(self.tasks)
        tasks = tasks if len(tasks) <= LONGEST else f"{len(self.tasks)}-tasks"
        return "-".join([tasks, *weighting, *dendrites, *experts])

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


def _check_domain(column: str | None, domain: str, experts: Experts) -> None:
    if column is not None and (column != domain or experts.names):
        raise ValueError(
            f"`tasks` should use the name {DOMAIN} for the column of data.domain alone, and not "
            f"beside experts, which are chosen by it. Found the column {column!r}. Choose another "
            f"name"
        )


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


def _told(message: str) -> PydanticCustomError:
    """An error that says all there is to say, without the key and the input behind it."""
    return PydanticCustomError("told", "{message}", {"message": message})


def _gathered(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with all that is said of a task under `tasks`.

    Options of a task may stand at the top (`topic.kind=ordinal`), and its column under `data`
    (`data.topic=COLUMN`); those of a built-in task that is not among `tasks` count for nothing.
    """
    found = dict(given)
    tasks = declarations(found["tasks"]) if "tasks" in found else {n: {} for n in BUILT_IN}
    data = dict(found["data"]) if isinstance(found.get("data"), Mapping) else None
    columns: dict[str, str] = {}
    for name in dict.fromkeys((*tasks, *BUILT_IN)):
        own = found.pop(name, {}) if name not in Config.model_fields else {}
        if not isinstance(own, Mapping):
            raise ValueError(f"`{name}` should have settings below it. Found {own!r}")
        if data is not None and name in data and name not in Data.model_fields:
            columns[name] = as_text(data.pop(name))
        if name in tasks:
            tasks[name] |= own
    found["tasks"] = with_columns(tasks, columns)
    return found if data is None else found | {"data": data}


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
        if key == "tasks":
            merged[key] = _selected(merged.get(key), value)
        else:
            _set(merged, key, value)
    try:
        merged = _gathered(merged)
        tasks = {name: settled_task(name, given) for name, given in merged.pop("tasks").items()}
        cfg = Config.model_validate({**settled(Config, merged), "tasks": tasks})
    except UserError:
        raise
    except RecursionError:
        raise UserError("A setting should have an end. Found one that contains itself.") from None
    except ValidationError as error:
        explained = "; ".join(_explain(e) for e in error.errors())
        raise UserError(" ".join(explained.split())) from None
    except ValueError as error:
        raise UserError(f"{' '.join(str(error).split())}.") from None
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


def _selected(declared: object, named: object) -> object:
    """The tasks named on the command line; what the file declared of each stays."""
    if not isinstance(declared, Mapping) or isinstance(named, Mapping):
        return named
    try:
        chosen = declarations(named)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    return {name: {**(declared.get(name) or {}), **said} for name, said in chosen.items()}


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
    if error["type"] == "told":
        return str(error["msg"])
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
