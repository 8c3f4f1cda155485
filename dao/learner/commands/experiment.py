"""`dao experiment`: every arm over several seeds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dao.learner.commands import options as o

__all__ = ["TRAIN", "experiment", "run_experiment"]

TRAIN = (sys.executable, "-m", "dao", "train")
"""What starts one run of an experiment or a grid as a process of its own."""


def experiment(
    overrides: o.Overrides = None,
    tasks: o.Tasks = None,
    use_dao: o.UseDao = None,
    weighting: o.Weighting = None,
    dendrites: o.Dendrites = None,
    data: o.Data = None,
    experts: o.Experts = None,
    domain_column: o.DomainColumn = None,
    encoder: o.EncoderName = None,
    quantize: o.QuantizeBase = None,
    seed: o.Seed = None,
    device: o.Device = None,
    output: o.RunOutput = None,
    config: o.ConfigFile = None,
    dry_run: o.DryRun = False,
    plan: o.PlanFile = None,
    seeds: o.Seeds = None,
    arms: o.Arms = None,
    jobs: o.Jobs = None,
    backend: o.Backend = None,
    only: o.Only = None,
) -> None:
    """Train several arms over several seeds, and report what differs.

    Without --plan the arms are DAO, dendrites, both, neither, and their controls. Runs that are
    finished stay; the same command again runs what is missing.
    """
    run_experiment({**locals(), "factorial": True}, TRAIN, alone=False)


def run_experiment(given: Mapping[str, Any], command: Sequence[str], *, alone: bool) -> bool:
    """Run what is missing of an experiment; False where the options ask for none.

    Args:
        given: option -> its value; None where it was not given.
        command: what trains; it is given the arguments of `dao train`.
        alone: whether there is an option that is of one run only.

    Raises:
        typer.BadParameter: options that exclude each other.
        typer.Exit: bad input or failed runs, said in one line.
    """
    settings = o.settings_of(given)
    names = ("plan", "seeds", "arms", "backend", "only", "jobs")
    if not given["factorial"] and all(given[name] is None for name in names):
        return False
    from dao.learner.console.errors import user_errors
    from dao.learner.experiment.grid.options import Options
    from dao.learner.experiment.grid.planned import run_plan
    from dao.learner.experiment.grid.runner import run_factorial
    from dao.learner.pipeline.start import checked_data
    from dao.learner.processes.ranks import joined

    asked = Options.given(given["factorial"], {name: given[name] for name in names}, alone=alone)
    assert asked is not None, "Options.given refuses such flags without --factorial"
    with user_errors(), joined():
        read = checked_data(ask_hub=not given["dry_run"])
        run = run_plan if asked.plan else run_factorial
        run(settings, asked, command, read, dry_run=given["dry_run"])
    return True
