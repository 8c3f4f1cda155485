"""Fine-tune one shared encoder on several tasks, with or without DAO, with or without dendrites.

python train.py --tasks cls,reg --dao --dendrites
python train.py --tasks cls,reg --factorial --seeds 5
python train.py --data human-ratings
python train.py --tasks cls --grid train.lr=1e-4,1e-3 --grid train.epochs=2,4
"""

import sys
from pathlib import Path
from typing import Annotated

from dao.command import alone, without

without("torchvision")

import typer

from dao.learner.commands import options as o
from dao.learner.commands.train import program
from tasks import register

Data = Annotated[
    list[str] | None,
    typer.Option(
        help="CSV, Parquet, JSON(L) file, human-ratings (out of a package), or hub id; repeat to "
        "merge several."
    ),
]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command()
def main(
    overrides: o.Overrides = None,
    tasks: o.Tasks = None,
    use_dao: o.UseDao = None,
    weighting: o.Weighting = None,
    dendrites: o.Dendrites = None,
    data: Data = None,
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
    factorial: o.Factorial = False,
    plan: o.PlanFile = None,
    seeds: o.Seeds = None,
    arms: o.Arms = None,
    jobs: o.Jobs = None,
    backend: o.Backend = None,
    only: o.Only = None,
    search: o.Grid = None,
    tune: o.Tune = None,
    trials: o.Trials = None,
    minutes: o.Minutes = None,
) -> None:
    """Fine-tune one shared encoder on several tasks and report on held-out data."""
    given = locals()
    register()
    program(given, (sys.executable, str(Path(__file__).resolve())))


if __name__ == "__main__":
    alone()
    app()
