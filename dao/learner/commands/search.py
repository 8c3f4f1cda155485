"""`dao search`: every combination of values of some settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from dao.learner.commands import options as o
from dao.learner.commands.experiment import TRAIN

__all__ = ["run_grid", "search"]


def search(
    overrides: o.Overrides = None,
    grid: o.Grid = None,
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
    """Train with every combination of values; the one that is best on validation is named.

    Runs that are finished stay; the same command again runs what is missing.
    """
    given = locals()
    if not grid:
        raise typer.BadParameter("a search needs at least one --grid KEY=VALUE,VALUE.")
    run_grid(given, TRAIN)


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
