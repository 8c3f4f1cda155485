"""What a run is made of: frozen models, read as defaults <- YAML <- KEY=VALUE <- flags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dao.errors import UserError
from dao.learner.basics.folders import absolute, shared_cache
from dao.learner.basics.frozen import Settings
from dao.learner.basics.wording import one_line
from dao.learner.basics.words import as_text, settled
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
from dao.learner.settings.checks import (
    DOMAIN,
    check_budget,
    check_domain,
    check_experts,
    check_prefix_cache,
    check_sampling,
    check_select_weights,
    check_tasks_named,
    check_tuning,
    check_weighting,
)
from dao.learner.settings.data_section import Data
from dao.learner.settings.dendrites_section import DendriteSettings
from dao.learner.settings.encoder_section import Encoder
from dao.learner.settings.experts_section import ExpertSettings
from dao.learner.settings.reading import (
    fill_named,
    in_words,
    parse_overrides,
    read_yaml_file,
    selected,
    set_value,
)
from dao.learner.settings.train_section import Dao, Train
from dao.learner.settings.weighting_spec import folder_part

__all__ = ["Config", "load_config", "placed"]

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
    """The rule that weighs the losses: dao, equal, fixed:W,W,... (a weight per task) or
    fixed:TASK=W,... (1 for the others), gls, uw, uw_so[:T], dwa[:T], rlw, gradnorm[:ALPHA], famo,
    dbmtl[:BETA], imtl_l, norm0[:STEPS], autoscale[:STEPS], torchjd:AGGREGATOR."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Decides the random numbers of a run: weights that start at random, the order of the rows,
    dropout. Two runs that differ in nothing else show how much is chance."""
    device: str = "auto"
    """Where the run is computed: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    output: str = ""
    """The run folder; empty: results/NAME/ARM/seed=N."""
    cache: str = ""
    """Folder for what runs can share; empty: $XDG_CACHE_HOME/dao or ~/.cache/dao."""
    encoder: Encoder = Encoder()
    data: Data = Data()
    dao: Dao = Dao()
    dendrites: DendriteSettings = DendriteSettings()
    experts: ExpertSettings = ExpertSettings()
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
        train, encoder = self.train, self.encoder
        check_weighting(self.weighting, list(self.tasks), train.accumulate)
        by_task = {"dao.priors": self.dao.priors, "train.select_weights": train.select_weights}
        check_tasks_named(by_task, self.tasks)
        check_select_weights(train.select_weights)
        check_sampling(train.sampling)
        check_domain(self.columns.get(DOMAIN), self.data.domain, self.experts)
        check_tuning(encoder, self.dendrites)
        if self.experts.names:
            check_experts(encoder, train, self.dendrites)
        check_budget(train, self.dendrites, self.experts)
        check_prefix_cache(encoder, train)
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
        return shared_cache()


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

    Registered data that are the only source have defaults of their own. The encoder's folder,
    where it is one, gets its full path.

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
        set_value(merged, key, value)
    for key, value in (read_yaml_file(path) if path else {}).items():
        old = merged.get(key)
        merged[key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    for key, value in [*parse_overrides(overrides), *(flags or {}).items()]:
        if key == "tasks":
            merged[key] = selected(merged.get(key), value)
        else:
            set_value(merged, key, value)
    fill_named(merged)
    try:
        merged = _gathered(merged)
        tasks = {name: settled_task(name, given) for name, given in merged.pop("tasks").items()}
        cfg = Config.model_validate({**settled(Config, merged), "tasks": tasks})
    except UserError:
        raise
    except RecursionError:
        raise UserError("A setting should have an end. Found one that contains itself.") from None
    except ValidationError as error:
        explained = one_line("; ".join(in_words(e, Config) for e in error.errors()))
        raise UserError(explained + "." * (explained[-1] not in ".?")) from None
    except ValueError as error:
        raise UserError(f"{one_line(error)}.") from None
    return placed(cfg)


def placed(cfg: Config) -> Config:
    """The same settings with full paths: of the encoder's folder, and of a run that is copied."""
    encoder = cfg.encoder.model_copy(update={"name": absolute(cfg.encoder.name)})
    dendrites = cfg.dendrites
    if run := dendrites.growths_of:
        full = os.path.abspath(Path(run).expanduser())
        dendrites = dendrites.model_copy(update={"growths_of": full})
    if (encoder, dendrites) == (cfg.encoder, cfg.dendrites):
        return cfg
    return cfg.model_copy(update={"encoder": encoder, "dendrites": dendrites})
