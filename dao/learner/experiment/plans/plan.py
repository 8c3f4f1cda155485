"""What a plan says: a question, arms, seeds, what is compared and how the tables are cut."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import Field, field_validator, model_validator

from dao.learner.basics.frozen import Settings

__all__ = ["ArmGroup", "Began", "ExperimentPlan", "folder_name"]

LONGEST = 80
"""Characters of an arm's name, which becomes that of a folder."""
TAKEN = ("figures",)
"""Folders of the experiment that hold no runs."""


class ArmGroup(Settings):
    """Arms that share a table."""

    arms: tuple[str, ...] = Field(min_length=1)
    reference: str = ""
    """The arm from which the table shows every other's difference; empty: no such columns."""


class Began(Settings):
    """What an experiment notes of its first command, in the plan that it keeps."""

    revision: str
    """Commit of the code, or the version of an installed copy."""
    uncommitted: bool | None = None
    """Whether the code had changes beside that commit; None for an installed copy."""
    seeds: tuple[int, ...]
    """Of the first command; later ones may add some."""
    command: str
    """What continues the experiment and writes its report anew."""


class ExperimentPlan(Settings):
    """An experiment on one's own arms, as `--plan FILE` reads it."""

    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    """What the experiment asks, in one sentence; the report begins with it."""
    seeds: tuple[int, ...]
    """Seeds of every arm; a single number N stands for 0 to N - 1."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of all runs, with the keys of a settings file."""
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name -> the settings that are the arm's own."""
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of rows that are tested, the first minus the second at the same seed."""
    reference: str = ""
    """Of the one table, where there are no groups; as `ArmGroup.reference`."""
    groups: dict[str, ArmGroup] = Field(default_factory=dict)
    """Title -> arms; a table each. Rows of no group share a last one."""
    choose: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Name of a further row -> arms; the row is the one with the best validation score."""
    alone: dict[str, str] = Field(default_factory=dict)
    """Task -> the row that has it alone, where several arms do; else that arm is found."""
    by: tuple[str, ...] = ()
    """Columns of the data by whose values figures are broken down, such as domain."""
    began: Began | None = None
    """Written by the experiment into the plan that it keeps, and by nobody else."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: object) -> object:
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            return tuple(range(seeds))
        return seeds

    @field_validator("seeds")
    @classmethod
    def _usable(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= s < 2**32 for s in seeds):
            raise ValueError(
                "should be one seed or more, each once and from 0 on: a number of seeds, or a list"
            )
        return seeds

    @field_validator("arms")
    @classmethod
    def _foldable(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            if not name.strip() or len(name) > LONGEST or folder_name(name)[0] in ".-":
                raise ValueError(
                    f"should have names of 1 to {LONGEST} characters that begin with a letter or a "
                    f"digit, for each is a folder. {name!r} cannot be one"
                )
            if folder_name(name).casefold() in TAKEN:
                raise ValueError(f"should not be called {name!r}, as a folder of the report is")
        if twice := _repeated(folder_name(name).casefold() for name in arms):
            both = [name for name in arms if folder_name(name).casefold() == twice]
            raise ValueError(
                f"should have names that differ as folders do. {both[0]!r} and {both[1]!r} are "
                f"both {twice!r}"
            )
        return arms

    @model_validator(mode="after")
    def _one_place(self) -> ExperimentPlan:
        if self.groups and self.reference:
            raise ValueError("`reference` should be given in each group, where there are groups")
        for name, arms in self.choose.items():
            if name in self.arms:
                raise ValueError(f"`choose` should not call a row as an arm is: {name!r}")
            if len(set(arms)) < 2 or len(set(arms)) < len(arms):
                raise ValueError(f"`choose.{name}` should name two arms or more, each once")
        return self


def folder_name(arm: str) -> str:
    """The folder of an arm inside the folder of its experiment.

    Example:
        >>> folder_name("torchjd:UPGrad"), folder_name("dao x10")
        ('torchjd_UPGrad', 'dao_x10')
    """
    return re.sub(r"[^\w.=,+-]", "_", arm)


def _repeated(names: Iterable[str]) -> str | None:
    counts = Counter(names)
    return next((name for name, count in counts.items() if count > 1), None)
