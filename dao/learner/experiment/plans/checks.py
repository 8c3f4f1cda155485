"""What a plan may not say: settings out of place, arms that are alike, names of nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

from dao.errors import UserError
from dao.learner.basics.wording import listed
from dao.learner.experiment.arm_settings import flat
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.plan import ExperimentPlan
from dao.learner.settings.config import Config

__all__ = [
    "check_alike",
    "check_given",
    "check_named",
    "check_of_use",
    "check_places",
    "check_scored",
    "full_name",
]

OF_EVERY_RUN = (
    "seed", "output", "split_tasks", "dendrites.growths_of", "name", "cache", "data.rules",
)  # fmt: skip
"""Settings that the experiment itself sets for each run, or that say only where files go."""
OF_THE_FOLDER = ("output", "name", "cache", "data.rules")
"""Those of them that the command or the settings of all runs may give."""
SCORED = ("kind", "column", "select_by", "positive")
"""Options of a task that decide what its figures, or the validation score, are figures of."""


def check_places(plan: ExperimentPlan, own: Mapping[str, Collection[str]]) -> None:
    """Refuse settings that each run has of its own, among those of all runs or of an arm.

    Args:
        plan: as it was read.
        own: arm -> the dotted keys that it sets.
    """
    for key in flat(plan.settings):
        if key in OF_EVERY_RUN and key not in OF_THE_FOLDER:
            raise UserError(
                f"`settings` of a plan should hold what all runs share. Found `{key}`, which each "
                f"run has of its own. Leave it out; seeds stand under `seeds`."
            )
    for arm, settings in own.items():
        for key in settings:
            if key in OF_EVERY_RUN:
                raise UserError(
                    f"The arm {arm!r} should leave `{key}` to the experiment, which sets it for "
                    f"each run. Leave it out; seeds stand under `seeds`."
                )


def check_of_use(keys: Iterable[str], named: Mapping[str, Collection[str]], shared: Config) -> None:
    """Refuse settings of all runs that every arm sets for itself."""
    for key in keys:
        if key != "tasks" and all(full_name(key, shared) in arm for arm in named.values()):
            raise UserError(
                f"`settings` of a plan should hold what arms share. Found `{key}`, which every arm "
                f"sets for itself. Leave it out."
            )


def check_given(
    given: Collection[str], named: Mapping[str, Collection[str]], shared: Config
) -> None:
    """Refuse settings of the command that would change some arms and not others."""
    for key in given:
        if key in OF_EVERY_RUN and key not in OF_THE_FOLDER:
            raise UserError(
                f"With --plan, `{key}` should be left to the experiment, which sets it for each "
                f"run. Leave it out; --seeds says how many seeds there are."
            )
        full = full_name(key, shared)
        if arms := [arm for arm, keys in named.items() if full in keys and full != "tasks"]:
            raise UserError(
                f"With --plan, `{key}` should be left to the arms that set it: "
                f"{listed([repr(arm) for arm in arms], most=4)}. Leave it out, or change the plan."
            )


def full_name(key: str, shared: Config) -> str:
    """A setting by its whole name: `topic.loss` is `tasks.topic.loss`."""
    task = key.partition(".")[0]
    short = task in shared.tasks and task not in Config.model_fields
    return f"tasks.{key}" if short else key


def check_alike(arms: Mapping[str, Config]) -> None:
    """Refuse two arms with the same settings."""
    for (a, one), (b, other) in combinations(arms.items(), 2):
        if one == other:
            raise UserError(
                f"Arms should differ in a setting. Found {a!r} and {b!r} alike. Change one of "
                f"them, or leave it out."
            )


def check_scored(design: Design) -> None:
    """Refuse arms whose figures mean different things, and choices by different scores."""
    for key in sorted(design.keys):
        parts = key.split(".")
        if parts[0] == "tasks" and len(parts) == 3 and parts[2] in SCORED[:2]:
            values = {arm: cfg.tasks.get(parts[1]) for arm, cfg in design.arms.items()}
            if len({getattr(task, parts[2]) for task in values.values() if task}) > 1:
                raise UserError(
                    f"Arms should share what their tasks are. Found that they differ in `{key}`. "
                    f"Declare two tasks, or make two plans."
                )
    for name, among in design.plan.choose.items():
        _known(among, design.arms, f"choose.{name}")
        scores = {arm: _score(design.arms[arm]) for arm in among}
        for arm, score in scores.items():
            if score != scores[among[0]]:
                raise UserError(
                    f"`choose.{name}` should choose among arms that are scored alike on "
                    f"validation. Found {among[0]!r} and {arm!r}, which differ in their tasks, or "
                    f"in how these are selected by. Choose among others."
                )


def _score(cfg: Config) -> object:
    """What the validation score of a run is made of."""
    parts = {
        name: [getattr(task, option, None) for option in SCORED] for name, task in cfg.tasks.items()
    }
    return parts, dict(cfg.train.select_weights)


def check_named(design: Design) -> None:
    """Refuse parts of a plan that name rows or tasks which are not there."""
    plan, rows = design.plan, design.rows
    for arm in design.shared.tasks:
        if arm in rows and design.tasks_of(arm) != [arm]:
            raise UserError(
                f"An arm should not have the name of a task, unless it learns that one alone. "
                f"Found {arm!r}. Call it otherwise."
            )
    _known([plan.reference] if plan.reference else [], rows, "reference")
    for title, group in plan.groups.items():
        _known(group.arms, rows, f"groups.{title}.arms")
        own = [group.reference] if group.reference else []
        _known(own, group.arms, f"groups.{title}.reference")
    _known(plan.alone.values(), rows, "alone")
    for task, row in plan.alone.items():
        if task not in design.shared.tasks or design.tasks_of(row) != [task]:
            raise UserError(
                f"`alone` should say which row has a task alone. Found {row!r} for {task}, whose "
                f"tasks are {listed(design.tasks_of(row))}."
            )
    _check_pairs(design)


def _check_pairs(design: Design) -> None:
    pairs = design.plan.compare
    for pair in pairs:
        _known(pair, design.rows, "compare")
        if pair[0] == pair[1] or pairs.count(pair) > 1:
            raise UserError(
                f"`compare` should name pairs of two rows, each once. Found {list(pair)}"
                f"{'' if pair[0] == pair[1] else ' twice'}."
            )
        if not set(design.tasks_of(pair[0])) & set(design.tasks_of(pair[1])):
            raise UserError(
                f"`compare` should name rows that share a task. Found none in {pair[0]!r} and "
                f"{pair[1]!r}."
            )


def _known(names: Iterable[str], known: Collection[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(
                f"`{where}` should name rows of the tables. Found {name!r}. There are "
                f"{listed(list(known), most=30)}."
            )
