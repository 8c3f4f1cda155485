"""The plan that an experiment keeps in its folder, from which its report is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dao.errors import UserError
from dao.learner.experiment.arm_settings import comparable_settings
from dao.learner.experiment.arms import PLACES
from dao.learner.experiment.plans.design import Design
from dao.learner.experiment.plans.plan import Began
from dao.learner.experiment.plans.reading import plan_yaml, read_plan
from dao.learner.experiment.plans.settling import designed, stated
from dao.learner.settings.config import Config
from dao.learner.storage.files import write_atomically
from dao.learner.storage.provenance import revision

__all__ = ["PLAIN", "PLAN", "check_same_plan", "keep", "kept", "stop_file"]

PLAN = "plan.yaml"
PLAIN = "baselines.json"
"""Figures of the plain models on parts of the test rows, for a plan with `by`."""
PARTS = ("compare", "reference", "groups", "choose", "alone", "by")
"""Parts of a plan that decide what its tables and tests are, beside settings and seeds."""


def kept(folder: Path) -> Design:
    """The experiment whose folder this is.

    Raises:
        UserError: the folder keeps no plan, or one that cannot be read.
    """
    if not (folder / PLAN).is_file():
        raise UserError(
            f"The folder of a planned experiment should hold {PLAN}. Found none in {folder}. Give "
            f"the folder that `dao experiment --plan` wrote."
        )
    return designed(read_plan(folder / PLAN), (None, [], {}), lambda _: folder)


def check_same_plan(design: Design) -> None:
    """Refuse an experiment other than the one that its folder was begun with.

    Title and question may be reworded, and seeds may be added.

    Raises:
        UserError: naming the first difference.
    """
    if not (design.folder / PLAN).is_file():
        return
    for what, found, asked in _differences(kept(design.folder), design):
        raise UserError(
            f"{design.folder} should keep the plan that it was begun with. Found {what} {found!r} "
            f"in its {PLAN} in place of {asked!r}. Give the old plan, or another --output; or "
            f"remove that {PLAN}, and runs of other settings, to begin anew."
        )


def keep(design: Design, command: str) -> None:
    """Write the plan into the folder, with all seeds and the revision that it began with.

    Args:
        design: the experiment.
        command: what continues it and makes its report anew.
    """
    path = design.folder / PLAN
    began = read_plan(path).began if path.is_file() else None
    if began is None:
        commit, uncommitted = revision()
        began = Began(
            revision=commit, uncommitted=uncommitted, seeds=design.plan.seeds, command=command
        )
    settings = stated(design.shared)
    plan = design.plan.model_copy(update={"settings": settings, "began": began})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, plan_yaml(plan))


def _differences(old: Design, new: Design) -> Iterator[tuple[str, object, object]]:
    """What differs, with both values."""
    yield from _settings("", old.shared, new.shared)
    if list(old.arms) != list(new.arms):
        yield "arms", list(old.arms), list(new.arms)
    for arm in old.arms:
        yield from _settings(f" of the arm {arm!r}", old.arms[arm], new.arms[arm])
    for part in PARTS:
        before, now = (getattr(design.plan, part) for design in (old, new))
        if before != now:
            yield part, before, now
    if not set(old.plan.seeds) <= set(new.plan.seeds):
        yield "seeds", list(old.plan.seeds), list(new.plan.seeds)


def _settings(whose: str, old: Config, new: Config) -> Iterator[tuple[str, object, object]]:
    found, asked = (comparable_settings(cfg) for cfg in (old, new))
    for key in {**asked, **found}:
        places = any(key == place or key.startswith(f"{place}.") for place in PLACES)
        if not places and found.get(key) != asked.get(key):
            yield f"`{key}`{whose}", found.get(key), asked.get(key)


def stop_file(run: Path) -> Path:
    """Where it is noted why a run stopped by itself, beside its folder."""
    return run.with_name(f"{run.name}.failed")
