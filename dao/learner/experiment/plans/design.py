"""A plan with all settings settled: what every arm is, and in which settings arms differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dao.learner.experiment.arm_settings import comparable_settings
from dao.learner.experiment.plans.plan import ExperimentPlan
from dao.learner.settings.config import Config

__all__ = ["Design"]

SPLIT = "split_tasks"


@dataclass(frozen=True)
class Design:
    """An experiment that can be run.

    Attributes:
        plan: as it was read.
        shared: the settings of all runs, with every task's kind.
        arms: the settings of each arm, but for seed and folder, in the order of the plan.
        folder: of the experiment.
    """

    plan: ExperimentPlan
    shared: Config
    arms: Mapping[str, Config]
    folder: Path

    @cached_property
    def own(self) -> dict[str, dict[str, Any]]:
        """Arm -> what it has of the settings in which arms differ, by their dotted names.

        That an arm learns some of the tasks alone makes no such difference.
        """
        settings = {arm: comparable_settings(cfg) for arm, cfg in self.arms.items()}
        every = dict.fromkeys(k for s in settings.values() for k in s if not k.startswith(SPLIT))
        keys = []
        for key in every:
            given = [s for s in settings.values() if key in s or not key.startswith("tasks.")]
            if any(s.get(key) != given[0].get(key) for s in given):
                keys.append(key)
        return {arm: {k: s[k] for k in keys if k in s} for arm, s in settings.items()}

    @property
    def keys(self) -> frozenset[str]:
        """The settings in which arms differ, by their dotted names."""
        return frozenset(key for own in self.own.values() for key in own)

    def told(self, arm: str) -> dict[str, Any]:
        """What readers are told of an arm: its own settings, and its tasks where arms differ."""
        apart = any(list(cfg.tasks) != list(self.shared.tasks) for cfg in self.arms.values())
        tasks = {"tasks": list(self.arms[arm].tasks)} if apart else {}
        return {**tasks, **self.own[arm]}

    @property
    def routed(self) -> dict[str, str]:
        """Further rows of arms with a router: their one model routed the other way."""
        return {
            f"{arm}, {'hard' if cfg.experts.routing == 'soft' else 'soft'}": arm
            for arm, cfg in self.arms.items()
            if cfg.routed
        }

    @property
    def rows(self) -> list[str]:
        """All rows of the tables, in order: arms, arms routed the other way, chosen arms."""
        found: list[str] = []
        for arm in self.arms:
            found += [arm, *(row for row, of in self.routed.items() if of == arm)]
        return [*found, *self.plan.choose]

    @property
    def alone(self) -> dict[str, str]:
        """Task -> the row that has it alone; only tasks of which there is one such row."""
        if len(self.shared.tasks) < 2:
            return {}
        found = {}
        for task in self.shared.tasks:
            own = [arm for arm, cfg in self.arms.items() if list(cfg.tasks) == [task]]
            if task in self.plan.alone:
                found[task] = self.plan.alone[task]
            elif len(own) == 1:
                found[task] = own[0]
        return found

    def tasks_of(self, row: str) -> list[str]:
        """The tasks that the runs of a row have learned."""
        arm = self.plan.choose.get(row, (self.routed.get(row, row),))[0]
        return list(self.arms[arm].tasks)
