"""`dao train`: one run; and what the flags of train.py ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from dao.learner.commands import options as o
from dao.learner.commands.finished import spare_for

__all__ = ["program", "train"]


def train(
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
    resume: o.Resume = None,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
) -> None:
    """Fine-tune one shared encoder on several tasks and report on held-out data."""
    _train_one(locals())


def program(given: Mapping[str, Any], command: Sequence[str]) -> None:
    """Do what train.py was asked for: a run, an experiment or a grid.

    Args:
        given: option -> its value; None where it was not given.
        command: what starts train.py, for runs as processes of their own.

    Raises:
        typer.BadParameter: options that exclude each other.
        typer.Exit: bad input, said in one line.
    """
    from dao.learner.commands.experiment import run_experiment
    from dao.learner.commands.search import run_search

    resume, overwrite = given["resume"], given["overwrite"]
    asked = "grid" if given["search"] else "tune"
    if (given["search"] or given["tune"]) and (given["factorial"] or resume or overwrite):
        raise typer.BadParameter(f"--{asked} excludes --factorial, --resume and --overwrite.")
    for name in ("trials", "minutes"):
        if given[name] is not None and not given["tune"]:
            raise typer.BadParameter(f"--{name} needs --tune.")
    if given["search"] or given["tune"]:
        from dao.learner.experiment.grid.options import Options

        others = {name: given[name] for name in ("plan", "seeds", "arms", "backend", "only")}
        Options.given(False, others, alone=False)  # refuses them
        run_search({**given, "grid": given["search"]}, command)
    elif not run_experiment(given, command, alone=bool(resume or overwrite)):
        _train_one(given)


def _train_one(given: Mapping[str, Any]) -> None:
    settings, resume = o.settings_of(given), given["resume"]
    overwrite, dry_run = given["overwrite"], given["dry_run"]
    if resume and (any(settings) or overwrite or dry_run):
        raise typer.BadParameter("--resume takes its settings from the run; give it alone.")
    from dao.learner.console.errors import user_errors
    from dao.learner.processes.ranks import joined

    with user_errors(), joined():
        if dry_run:
            _show_plan(settings)
        else:
            _run(settings, resume, overwrite)


def _run(settings: o.Settings, resume: Path | None, overwrite: bool) -> None:
    from dao.learner.settings.config import load_config
    from dao.learner.storage.record import RunFolder

    cfg = RunFolder(resume).config() if resume else load_config(*settings)
    spare_for(cfg)
    from dao.learner.console.command import print_results
    from dao.learner.pipeline.start import train
    from dao.learner.processes.ranks import is_first

    metrics = train(cfg, resume=resume, overwrite=overwrite)
    if is_first():
        folder = resume or cfg.folder
        print_results(metrics, folder, None if cfg.train.page is False else _page(folder))


def _page(folder: Path) -> Path:
    """Write the page of the run; imported late, for it draws."""
    from dao.learner.run_page.page import write_run_page

    return write_run_page(folder)


def _show_plan(settings: o.Settings) -> None:
    from dao.learner.console.command import print_plan
    from dao.learner.data.load import notes
    from dao.learner.kinds.told import notes_of_tasks
    from dao.learner.pipeline.start import checked_data
    from dao.learner.processes.ranks import is_first
    from dao.learner.settings.config import load_config

    cfg, table, tasks = checked_data(ask_hub=False)(load_config(*settings))
    if is_first():
        print_plan(cfg, table, notes(table.report) + notes_of_tasks(tasks))
