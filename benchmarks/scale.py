"""The scale of a loss: the same two tasks, one loss times 1e-4 to 1e4, under AdamW and SGD.

python -m benchmarks.scale --data english-finance.csv --jobs 2
python -m benchmarks.scale --data english-finance.csv --quick --output /tmp/scale

A class and a score of sentences on frozen, mean-pooled MiniLM states (computed once, kept in the
user's cache), with a small trunk: seconds a run. The loss of the score is multiplied by the factor;
nothing else changes. The CSV file has the columns text, label and score; a row may lack either.

Tables: accuracy and R2 by factor and weighting, at one learning rate and with a rate per row, which
validation chooses at factor 1 on seeds that are not tested; and at factor 1, for short and longer
trainings, how many steps each weighting needs to reach the validation score that equal weights have
at their end. The plan is written before the first run; runs are resumed as in `benchmarks.units`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.frozen.arms import ARMS
from benchmarks.frozen.finance import load_sentences
from benchmarks.frozen.rates import Rates, best_rate, tuning_jobs
from benchmarks.frozen.runner import Lines, complete, keep_plan
from benchmarks.frozen.scale_page import Sweep, write_page
from benchmarks.frozen.training import (
    BATCH, CLIP, DECAY, DEPTH, EVERY, MOMENTUM, WARMUP, WIDTH, Job,
)  # fmt: skip
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console

__all__ = ["Design", "app", "sweeps"]

BASE = ["equal", "uw", "uw-slow", "gls", "famo", "norm0", "autoscale", "gradnorm", "upgrad",
        "dbmtl", "dao"]  # fmt: skip
RATES = {
    "adamw": Rates(fixed=0.003, tried=(0.001, 0.003, 0.01), seeds=(100, 101, 102)),
    "sgd": Rates(fixed=0.1, tried=(0.03, 0.1, 0.3), seeds=(100, 101, 102)),
}
ABOUT = (
    "Does a weighting undo the scale of a loss? A class (cross-entropy) and a score in [-1, 1] "
    "(squared error, in its own unit) on frozen MiniLM states; the loss of the score is multiplied "
    f"by the factor. A trunk of {DEPTH} layers of {WIDTH}, a linear head per task, half of each "
    "batch with a class and half with a score. 70 / 15 / 15 % of the rows, texts whole, split anew "
    "by seed. Selected: the validation with the highest mean of accuracy and R2. `grid`: of the "
    "runs of `equal` at all factors, the best by validation, seed by seed, which is what a constant "
    "on the score's loss finds at any factor, for the cost of as many runs. With a rate per row, "
    "the rate is chosen at factor 1 and kept at the others. The test rows of these seeds were not "
    "looked at before this plan was written."
)


@dataclass(frozen=True)
class Design:
    """What is run; see `ABOUT`.

    Attributes:
        factors: of the loss, at one rate for all rows.
        tuned_factors: those also at a rate per row.
        rows: by optimizer.
        steps: of the sweep.
        budgets: steps of the trainings at factor 1 whose progress is compared.
        progress: their rows.
        seeds: tested.
    """

    factors: tuple[float, ...] = tuple(10.0**power for power in range(-4, 5))
    tuned_factors: tuple[float, ...] = (1e-4, 1e-2, 1.0, 1e2, 1e4)
    adamw: tuple[str, ...] = (*BASE, "dao-1", "dao-paper")
    sgd: tuple[str, ...] = (*BASE, "dao-keep", "dao-unit", "dao-1-keep", "dao-1-unit")
    steps: int = 200
    budgets: tuple[int, ...] = (60, 150)
    progress: tuple[str, ...] = (
        "equal", "uw", "gls", "famo", "norm0", "autoscale", "dbmtl", "dao", "dao-10", "dao-rep",
        "dao-1", "dao-paper",
    )  # fmt: skip
    seeds: int = 10


QUICK = Design(
    factors=(1e-4, 1.0, 1e4), tuned_factors=(1e-4, 1.0), adamw=("equal", "norm0", "dao"),
    sgd=("equal", "dao", "dao-unit"), steps=30, budgets=(20,), progress=("equal", "dao", "dao-1"),
    seeds=2,
)  # fmt: skip


def sweeps(data: str, design: Design, folder: Path, processes: int) -> list[Sweep]:
    """Make what is missing, and give the lines of every table."""
    tried = complete(tuning_jobs(_cells(data, design), RATES), folder, processes)
    found = []
    for tuned in (False, True):
        factors = design.tuned_factors if tuned else design.factors
        for optimizer, rows in (("adamw", design.adamw), ("sgd", design.sgd)):
            columns = [(factor, design.steps) for factor in factors]
            sweep = _jobs(data, design, optimizer, rows, columns, tried if tuned else None)
            found.append(_made("factor", optimizer, tuned, sweep, folder, processes))
        columns = [(1.0, steps) for steps in design.budgets]
        sweep = _jobs(data, design, "adamw", design.progress, columns, tried if tuned else None)
        found.append(_made("steps", "adamw", tuned, sweep, folder, processes))
    return found


Jobs = dict[tuple[str, float], list[Job]]


def _cells(data: str, design: Design) -> list[Job]:
    swept = [("adamw", arm, design.steps) for arm in design.adamw]
    swept += [("sgd", arm, design.steps) for arm in design.sgd]
    swept += [("adamw", arm, n) for n in design.budgets for arm in design.progress]
    return [Job(data, arm, 0, 0.0, steps, optimizer) for optimizer, arm, steps in swept]


def _jobs(
    data: str, design: Design, optimizer: str, rows: Sequence[str],
    columns: Sequence[tuple[float, int]], tried: Lines | None,
) -> Jobs:  # fmt: skip
    """Jobs by row and column: the factor, or the steps where columns differ in these."""
    found: Jobs = {}
    for arm in rows:
        for factor, steps in columns:
            rate = RATES[optimizer].fixed
            if tried is not None:
                cell = Job(data, arm, 0, 0.0, steps, optimizer)
                rate = best_rate(cell, RATES[optimizer], tried)
            column = factor if len({f for f, _ in columns}) > 1 else float(steps)
            found[arm, column] = [
                Job(data, arm, seed, rate, steps, optimizer, factor, curve=factor == 1)
                for seed in range(design.seeds)
            ]
    return found


def _made(
    kind: str, optimizer: str, tuned: bool, jobs: Jobs, folder: Path, processes: int
) -> Sweep:
    lines = complete([job for each in jobs.values() for job in each], folder, processes)
    return Sweep(
        kind, optimizer, tuned, {key: [lines[j.key] for j in each] for key, each in jobs.items()}
    )


def _settings(data: str, design: Design) -> dict[str, Any]:
    table = load_sentences(data)
    names = {*design.adamw, *design.sgd, *design.progress}
    return {
        "data": Path(data).name, "rows with a class": int((table.classes["cls"] >= 0).sum()),
        "rows with a score": int((~table.numbers["reg"].isnan()).sum()), **vars(design),
        "weightings": {name: arm.about for name, arm in ARMS.items() if name in names},
        "rates": {name: vars(rates) for name, rates in RATES.items()}, "batch": BATCH,
        "trunk": [WIDTH] * DEPTH, "weight decay of AdamW": DECAY, "momentum of SGD": MOMENTUM,
        "clip": CLIP, "warm-up": WARMUP, "schedule": "linear to 0",
        "steps between validations": EVERY,
    }  # fmt: skip


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[str, typer.Option(help="CSV file with text, label and score.")],
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few rows, 2 seeds, 30 steps.")] = False,
    output: Annotated[Path, typer.Option(help="Where all results go.")] = Path("results/scale"),
) -> None:
    """Run what is missing and write the tables."""
    with user_errors():
        design = QUICK if quick else Design()
        plan = keep_plan(output, ABOUT, _settings(data, design))
        write_page(output, plan, sweeps(data, design, output, jobs))
        plain_console().print(f"{output / 'README.md'}", highlight=False)


if __name__ == "__main__":
    app()
