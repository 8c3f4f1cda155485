"""The settings of one arm: those that all arms share, with its own in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.basics.words import as_text
from dao.learner.kinds.declared import declarations
from dao.learner.settings.config import Config, load_config

__all__ = ["arm_config", "comparable_settings", "flat"]


def arm_config(shared: Config, own: Mapping[str, Any]) -> Config:
    """The settings of an arm.

    An arm on some of the tasks keeps the split of all, and the priors and weights of its own.

    Args:
        shared: that all arms have, with every task.
        own: dotted keys to values, as in a settings file; `tasks` names some of the shared ones.

    Raises:
        UserError: naming the setting that is unknown or cannot be used.

    Example:
        >>> cfg = arm_config(Config(), {"tasks": ["cls"], "train.lr": 0.01})
        >>> list(cfg.tasks), list(cfg.split_tasks), cfg.train.lr
        (['cls'], ['cls', 'reg'], 0.01)
    """
    settings = shared.model_dump(mode="json")
    names = _names(own, shared)
    # Priors and weights of tasks that this arm does not learn would be refused.
    for section, key in (("dao", "priors"), ("train", "select_weights")):
        kept = {task: value for task, value in settings[section][key].items() if task in names}
        settings[section] |= {key: kept}
    settings["split_tasks"] = settings["tasks"] if len(names) < len(settings["tasks"]) else {}
    tasks = {"tasks": names} if "tasks" in own else {}
    return load_config(None, flags={**tasks, **{k: own[k] for k in own if k != "tasks"}},
                       before=settings)  # fmt: skip


def _names(own: Mapping[str, Any], shared: Config) -> list[str]:
    if "tasks" not in own:
        return list(shared.tasks)
    given = own["tasks"]
    try:
        found = {} if isinstance(given, Mapping) else declarations(given)
    except ValueError as error:
        raise UserError(f"{error}.") from None
    if not found or any(found.values()) or found.keys() - shared.tasks.keys():
        raise UserError(
            f"`tasks` of an arm should be names of tasks of the experiment, which are "
            f"{listed(list(shared.tasks))}. Found {_shown(given)}. Declare a task, with its kind, "
            f"in the settings of all arms."
        )
    return list(found)


def _shown(given: object) -> str:
    names = list(given) if isinstance(given, list | tuple | Mapping) else [given]
    return ", ".join(str(as_text(name)) for name in names) or "none"


def comparable_settings(cfg: Config) -> dict[str, Any]:
    """Settings by their dotted names, with one spelling for what means the same.

    `dao.source` and `dao.refresh_every` are as `Dao.measured` spells them, by whatever rules the
    run began: an earlier revision stated them, where later ones leave them to `DAOLoss`.

    Example:
        >>> earlier = Config(dao={"rules": 1, "source": "params", "refresh_every": 50})
        >>> found = comparable_settings(earlier)
        >>> found["dao.source"], found["dao.refresh_every"]
        ('params', 50)
    """
    # An arm with one task alone is measured like the arms that it is compared with.
    tasks = {**cfg.split_tasks, **cfg.tasks}
    measured = {f"dao.{key}": value for key, value in cfg.dao.measured(len(tasks)).items()}
    found = {**flat(cfg.model_dump(mode="json")), **measured}
    del found["dao.rules"]
    return found


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names.

    Example:
        >>> flat({"train": {"lr": 0.1}, "seed": 0})
        {'train.lr': 0.1, 'seed': 0}
    """
    result: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{as_text(key)}"
        nested = flat(value, f"{name}.") if isinstance(value, Mapping) else {}
        result |= nested or {name: value}
    return result
