"""The flags of an experiment, and what they may not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from dao.errors import UserError
from dao.learner.processes import ranks

__all__ = ["SEEDS", "Options", "check_one_process", "check_options"]

BACKENDS = ("local", "ray")
SEEDS = 5
"""Of the built-in arms, where no number is given."""


@dataclass(frozen=True)
class Options:
    """The flags of the experiment.

    Attributes:
        seeds: how many, from 0; None: `SEEDS`, or those of the plan.
        jobs: runs at a time; None: one on this machine, and what a cluster has room for.
        backend: `local` or `ray`.
        only: cells such as dao/3, for a scheduler that starts each run by itself; empty: all.
        arms: their names; empty: those that `arms.chosen` takes for the tasks.
        plan: a file with arms of one's own; None: the built-in arms.
    """

    seeds: int | None = None
    jobs: int | None = None
    backend: str = "local"
    only: Sequence[str] = ()
    arms: Sequence[str] = ()
    plan: Path | None = None

    @classmethod
    def given(cls, factorial: bool, flags: Mapping[str, Any], *, alone: bool) -> Options | None:
        """What the flags say; None without --factorial.

        Args:
            factorial: whether there is an experiment.
            flags: by field; None where not given.
            alone: whether there is a flag that is of one run only.

        Raises:
            typer.BadParameter: flags that exclude each other.
        """
        flags = {name: value for name, value in flags.items() if value is not None}
        if not factorial:
            if flags:
                raise typer.BadParameter(f"--{next(iter(flags))} needs --factorial.")
            return None
        if alone:
            raise typer.BadParameter(
                "--factorial continues by itself and replaces nothing; leave out --resume and "
                "--overwrite, and remove the folders of runs that are to be made again."
            )
        names = flags.pop("arms", None)
        if names is not None and "plan" in flags:
            raise typer.BadParameter(
                "--arms takes some of the built-in arms; with --plan, --only ARM/SEED takes runs."
            )
        arms = () if names is None else tuple(name.strip() for name in names.split(","))
        return cls(**flags, arms=arms)


def check_options(options: Options) -> None:
    """Refuse an unknown backend, and a launcher of several processes.

    Raises:
        UserError: naming what was found.
    """
    if options.backend not in BACKENDS:
        raise UserError(f"--backend should be local or ray. Found {options.backend!r}.")
    check_one_process()


def check_one_process() -> None:
    """Refuse a launcher of several processes.

    Raises:
        UserError: there are several.
    """
    if ranks.several():
        raise UserError(
            "An experiment or a search should run as one process, which starts one for each run. "
            "Found several. Start it without a launcher; --jobs N makes N runs at a time."
        )
