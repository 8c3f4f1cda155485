"""From a plan and the settings of a command to an experiment that can be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.experiment.arm_settings import arm_config, flat
from dao.learner.experiment.arms import PLACES
from dao.learner.experiment.plans.checks import (
    check_alike,
    check_given,
    check_named,
    check_of_use,
    check_places,
    check_scored,
    full_name,
)
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.plan import ExperimentPlan
from dao.learner.kinds.declared import declarations
from dao.learner.settings.config import Config, load_config
from dao.learner.settings.reading import parse_overrides, read_yaml_file

__all__ = ["Given", "designed", "stated"]

Given = tuple[Path | None, list[str], Mapping[str, Any]]
"""YAML file, KEY=VALUE and flags of the command, as `load_config` takes them."""


def designed(
    plan: ExperimentPlan,
    given: Given,
    folder: Callable[[Config], Path],
    decide: Callable[[Config], Config] | None = None,
) -> Design:
    """Settle the settings of a plan.

    Args:
        plan: as it was read.
        given: settings of the command, which come before those of the plan.
        folder: where the experiment goes, by the settings of all runs.
        decide: reads the data and gives every task its kind; None where the plan has all kinds.

    Raises:
        UserError: a setting cannot be used or is not for this place, two arms are alike, or a part
            of the plan names what is not there.
    """
    path, overrides, flags = given
    said = {*flags, *dict(parse_overrides(overrides)), *flat(read_yaml_file(path) if path else {})}
    shared = load_config(path, overrides, flags, before=_of_all_runs(plan))
    own = {arm: flat(settings) for arm, settings in plan.arms.items()}
    check_places(plan, own)
    named = {arm: {full_name(key, shared) for key in settings} for arm, settings in own.items()}
    check_given(said, named, shared)
    if plan.began is None:  # a plan that is kept states every option of the tasks
        check_of_use(flat(plan.settings), named, shared)
    if shared.undecided and decide is not None:
        shared = decide(shared)
    arms = {arm: _arm(arm, shared, settings) for arm, settings in own.items()}
    design = Design(plan, shared, arms, folder(shared))
    check_alike(arms)
    check_scored(design)
    check_named(design)
    return design


def _of_all_runs(plan: ExperimentPlan) -> dict[str, Any]:
    """The plan's settings by dotted keys; names of tasks become declarations."""
    settings = dict(plan.settings)
    if "tasks" in settings and not isinstance(settings["tasks"], Mapping):
        try:
            settings["tasks"] = declarations(settings["tasks"])
        except ValueError as error:
            raise UserError(f"{error}.") from None
    first = {"tasks": settings.pop("tasks")} if "tasks" in settings else {}
    return flat({**first, **settings})


def _arm(arm: str, shared: Config, own: Mapping[str, Any]) -> Config:
    try:
        return arm_config(shared, own)
    except UserError as error:
        raise UserError(f"In the arm {arm!r}: {error}") from None


def stated(shared: Config, leave_out: Sequence[str] = PLACES) -> dict[str, Any]:
    """The settings of all runs that are not the defaults, as a plan takes them.

    Example:
        >>> stated(load_config(None, ["train.lr=0.01", "output=here"]))
        {'train.lr': 0.01}
    """
    found = shared.model_dump(mode="json")
    # Data that are registered by name bring defaults of their own.
    default = load_config(flags={"data.sources": found["data"]["sources"]}).model_dump(mode="json")
    default["data"]["sources"] = []
    tasks = {} if found["tasks"] == default["tasks"] else {"tasks": found["tasks"]}
    for content in (found, default):
        content.pop("tasks")
        content.pop("split_tasks")
    was = flat(default)
    rest = {k: v for k, v in flat(found).items() if k not in leave_out and v != was.get(k)}
    return {**tasks, **rest}
