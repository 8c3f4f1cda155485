"""`dao search`: values of some settings, all combinations or those that optuna proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from dao.learner.commands import options as o
from dao.learner.commands.experiment import TRAIN

__all__ = ["run_search", "search"]


def search(
    overrides: o.Overrides = None,
    grid: o.Grid = None,
    tune: o.Tune = None,
    trials: o.Trials = None,
    minutes: o.Minutes = None,
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
    jobs: o.Jobs = None,
) -> None:
    """Try values of settings; the run that is best on validation is named.

    --grid trains every combination of values. --tune lets optuna propose values out of ranges and
    learn from the runs before. Runs that are finished stay; the same command again goes on.
    """
    given = locals()
    if not grid and not tune:
        raise typer.BadParameter(
            "a search needs at least one --grid KEY=VALUE,VALUE or --tune KEY=LOW..HIGH."
        )
    run_search(given, TRAIN)


def run_search(given: Mapping[str, Any], command: Sequence[str]) -> None:
    """Run a grid, or a search over ranges.

    Args:
        given: option -> its value; None where it was not given.
        command: what trains; it is given the arguments of `dao train`.

    Raises:
        typer.BadParameter: options that exclude each other.
        typer.Exit: bad input, failed runs or a stop, said in one line.
    """
    if given["grid"] and given["tune"]:
        raise typer.BadParameter("--grid and --tune exclude each other.")
    for name in ("trials", "minutes"):
        if given["grid"] and given[name] is not None:
            raise typer.BadParameter(f"--{name} needs --tune.")
    (run_grid if given["grid"] else run_tune)(given, command)


def run_grid(given: Mapping[str, Any], command: Sequence[str]) -> None:
    """Run what is missing of a grid.

    Args:
        given: option -> its value; None where it was not given.
        command: what trains; it is given the arguments of `dao train`.

    Raises:
        typer.BadParameter: options that exclude each other.
        typer.Exit: bad input or failed runs, said in one line.
    """
    settings = o.settings_of(given)
    from dao.learner.console.errors import user_errors
    from dao.learner.experiment.grid.search import read_grid, run_search
    from dao.learner.pipeline.start import checked_data
    from dao.learner.processes.ranks import joined

    with user_errors(), joined():
        read = checked_data(ask_hub=not given["dry_run"])
        grid = read_grid(given["grid"])
        run_search(settings, grid, given["jobs"], command, read, dry_run=given["dry_run"])


def run_tune(given: Mapping[str, Any], command: Sequence[str]) -> None:
    """Go on with a search over ranges; arguments and errors as of `run_search`."""
    settings = o.settings_of(given)
    from dao.learner.console.errors import user_errors
    from dao.learner.experiment.tuning.search import TuningOptions, run_tuning
    from dao.learner.pipeline.start import checked_data
    from dao.learner.processes.ranks import joined

    with user_errors(), joined():
        asked = TuningOptions(given["tune"], given["trials"], given["minutes"], given["jobs"])
        read = checked_data(ask_hub=not given["dry_run"])
        run_tuning(settings, asked, command, read, dry_run=given["dry_run"])
