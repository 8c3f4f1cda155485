"""Fine-tune one shared encoder on several tasks, with or without DAO, with or without dendrites.

python train.py --tasks cls,reg --dao --dendrites
python train.py --tasks cls,reg --factorial --seeds 5
python train.py --tasks cls --grid train.lr=1e-4,1e-3 --grid train.epochs=2,4
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dao.learner.data.reading.table import Table
    from dao.learner.kinds import Task
    from dao.learner.settings.config import Config

    Loaded = tuple[Config, Table, dict[str, Task]]

grid = partial(typer.Option, rich_help_panel="The experiment: DAO x dendrites, and controls")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command()
def main(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Any setting, such as train.epochs=3."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Columns to learn, such as cls,reg or topic,stars:ordinal; a kind that is not "
            "given is proposed from the data."
        ),
    ] = None,
    use_dao: Annotated[
        bool | None, typer.Option("--dao/--no-dao", help="Balance the losses; --weighting dao.")
    ] = None,
    weighting: Annotated[
        str | None,
        typer.Option(help="dao, equal, fixed:1,30 or fixed:TASK=W, gls, torchjd:UPGrad, ..."),
    ] = None,
    dendrites: Annotated[bool | None, typer.Option(help="Grow dendrites.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="CSV, Parquet, JSON(L) file or hub id; repeat to merge several."),
    ] = None,
    experts: Annotated[
        str | None, typer.Option(help="A LoRA expert per domain and a router: news,forum.")
    ] = None,
    domain_column: Annotated[
        str | None, typer.Option(help="Column with each row's domain. Default: domain.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Hub id or folder of a Hugging Face text model.")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="none, nf4 or int8.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = None,
    output: Annotated[str | None, typer.Option(help="The run folder.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    factorial: Annotated[bool, grid("--factorial", help="All arms, over several seeds.")] = False,
    seeds: Annotated[int | None, grid(min=1, help="How many, from 0. Default: 5.")] = None,
    arms: Annotated[
        str | None, grid(help="Some of the arms, NAME,NAME; also dao-paper. Default: all others.")
    ] = None,
    jobs: Annotated[
        int | None, grid(min=1, help="Runs at a time, also of --grid. Default: 1.")
    ] = None,
    backend: Annotated[str | None, grid(help="local, or ray: the workers of a cluster.")] = None,
    only: Annotated[list[str] | None, grid(help="One run, such as dao/3; repeatable.")] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=VALUE,...",
            help="Run every combination of values; the best on validation is named; repeatable.",
        ),
    ] = None,
) -> None:
    """Fine-tune one shared encoder on several tasks and report on held-out data."""
    from dao.learner.console.command import user_errors
    from dao.learner.experiment.grid.runner import Options, run_factorial
    from dao.learner.processes.ranks import joined

    if use_dao is not None:
        named = "dao" if use_dao else "equal"
        if weighting not in (None, named):
            raise typer.BadParameter(f"--weighting {weighting} contradicts --dao/--no-dao.")
        weighting = named
    flags = {
        "tasks": tasks, "weighting": weighting, "dendrites.enabled": dendrites,
        "data.sources": data, "experts.names": experts, "data.domain": domain_column,
        "encoder.name": encoder, "encoder.quantize": quantize,
        "seed": seed, "device": device, "output": output,
    }  # fmt: skip
    flags = {key: value for key, value in flags.items() if value is not None}
    if resume and (flags or overrides or config or overwrite or dry_run):
        raise typer.BadParameter("--resume takes its settings from the run; give it alone.")
    if search and (factorial or resume or overwrite):
        raise typer.BadParameter("--grid excludes --factorial, --resume and --overwrite.")
    asked = {"seeds": seeds, "arms": arms, "backend": backend, "only": only}
    asked["jobs"] = None if search else jobs  # which --grid takes as well
    experiment = Options.given(factorial, asked, alone=bool(resume or overwrite))
    with user_errors(), joined():
        command = [sys.executable, str(Path(__file__).resolve())]
        settings = (config, overrides or [], flags)
        if search:
            from dao.learner.experiment.grid.search import read_grid, run_search

            read = checked_data(ask_hub=not dry_run)
            run_search(settings, read_grid(search), jobs, command, read, dry_run=dry_run)
            return
        if experiment:
            read = checked_data(ask_hub=not dry_run)
            run_factorial(settings, experiment, command, read, dry_run=dry_run)
        else:
            _main(config, overrides or [], flags, resume, overwrite, dry_run)


def _main(
    path: Path | None, overrides: list[str], flags: dict[str, Any], resume: Path | None,
    overwrite: bool, dry_run: bool,
) -> None:  # fmt: skip
    from dao.learner.console.command import print_plan, print_results
    from dao.learner.data.load import notes
    from dao.learner.kinds.told import notes_of_tasks
    from dao.learner.processes.ranks import is_first
    from dao.learner.settings.config import load_config
    from dao.learner.storage.record import RunFolder

    cfg = RunFolder(resume).config() if resume else load_config(path, overrides, flags)
    if not dry_run:
        run(cfg, resume=resume, overwrite=overwrite)
        if is_first():
            print_results(RunFolder(resume or cfg.folder))
        return
    cfg, table, tasks = checked_data(ask_hub=False)(cfg)
    if is_first():
        print_plan(cfg, table, notes(table.report) + notes_of_tasks(tasks))


def load_table(cfg: Config) -> Table:
    """Read the data that the settings name."""
    import tasks
    from dao.learner.data.load import Columns, load

    tasks.register()

    return load(
        cfg.data.sources,
        Columns.named(cfg.data, cfg.columns, cfg.words_column),
        tasks=cfg.tasks,
        split_tasks=cfg.split_tasks,
        split_seed=cfg.data.split_seed,
        fractions=cfg.data.fractions,
        where=cfg.data.where,
        synthetic=cfg.data.synthetic.model_dump(),
    )


def load_data(cfg: Config) -> Loaded:
    """The settings with every task's kind, the table, and the tasks fitted to its training rows."""
    from dao.learner.data.load import fit

    table = load_table(cfg)
    return cfg.with_tasks(table.tasks), table, fit(table)


def checked_data(*, ask_hub: bool = True) -> Callable[[Config], Loaded]:
    """What `load_data` gives, or the error for which a run of these settings would be refused.

    Runs that read the same data share them.
    """
    from dao.learner.pipeline.preflight import check

    known: dict[str, Loaded] = {}

    def read(cfg: Config) -> Loaded:
        key = cfg.model_dump_json(include={"tasks", "split_tasks", "data"})
        if key not in known:
            known[key] = load_data(cfg)
        decided, table, tasks = known[key]
        cfg = cfg.with_tasks(decided.tasks)
        check(cfg, table, tasks, ask_hub=ask_hub)
        return cfg, table, tasks

    return read


def run(cfg: Config, *, resume: Path | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Train one model in a new run folder, or continue in an interrupted one; its metrics."""
    from dao.learner.console.report import RichProgress
    from dao.learner.data.load import ceilings, notes
    from dao.learner.kinds.told import notes_of_tasks
    from dao.learner.pipeline import run as learner
    from dao.learner.processes import ranks

    cfg, table, tasks = load_data(cfg) if resume else checked_data()(cfg)
    best = {split: ceilings(table, tasks, split) for split in ("validation", "test")}
    folder = ranks.run_folder(resume or cfg.folder)
    lines = notes(table.report) + notes_of_tasks(tasks)
    shown = RichProgress(lines) if ranks.is_first() else ranks.Silence()
    with folder.locked(), shown as progress:
        if resume:
            folder.check_resumable()
        else:
            folder.create(cfg, overwrite=overwrite)
        ranks.barrier()
        try:
            return learner.run(cfg, table, tasks, best, folder, progress, resume=resume is not None)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(folder.how_to_continue()) from None


if __name__ == "__main__":
    app()
