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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.frozen.arms import ARMS
from benchmarks.frozen.finance import load_sentences
from benchmarks.frozen.rates import Rates, best_rate, tuning_jobs
from benchmarks.frozen.runner import Lines, complete, keep_plan
from benchmarks.frozen.scale_page import Sweep, write_page
from benchmarks.frozen.training import (
    BATCH,
    CLIP,
    DECAY,
    DEPTH,
    EVERY,
    MOMENTUM,
    WARMUP,
    WIDTH,
    Job,
    run,
)
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console

__all__ = ["Design", "app", "sweeps"]

BASE = (
    "equal", "uw", "gls", "famo", "norm0", "autoscale", "gradnorm", "upgrad", "dbmtl", "dao",
)  # fmt: skip
RATES = {
    "adamw": Rates(fixed=0.003, tried=(0.001, 0.003, 0.01), seeds=(100, 101)),
    "sgd": Rates(fixed=0.1, tried=(0.03, 0.1, 0.3), seeds=(100, 101)),
}
ABOUT = (
    "Does a weighting undo the scale of a loss? A class (cross-entropy) and a score in [-1, 1] "
    "(squared error, in its own unit) on frozen MiniLM states; the loss of the score is multiplied "
    f"by the factor. A trunk of {DEPTH} layers of {WIDTH}, a linear head per task, half of each "
    "batch with a class and half with a score. 70 / 15 / 15 % of the rows, texts whole, split anew "
    "by seed. Selected: the validation with the highest mean of accuracy and R2. `grid`: of the "
    "runs of `equal` at all factors, the best by validation, seed by seed, which is what a "
    "constant on the score's loss finds at any factor, for the cost of as many runs. With "
    "a rate per row, the rate is chosen at factor 1 and kept at the others. The test rows of these "
    "seeds were not looked at before this plan was written."
)


@dataclass(frozen=True)
class Design:
    """What is run; see `ABOUT`.

    Attributes:
        factors: of the loss, at one rate for all rows.
        tuned_factors: those also at a rate per row.
        adamw, sgd: rows by optimizer.
        tuned_adamw, tuned_sgd: those also at a rate per row.
        steps: of the sweep.
        budgets: steps of the trainings at factor 1 whose progress is compared.
        progress: their rows.
        seeds: tested.
    """

    factors: tuple[float, ...] = tuple(10.0**power for power in range(-4, 5))
    tuned_factors: tuple[float, ...] = (1e-4, 1e-2, 1.0, 1e2, 1e4)
    adamw: tuple[str, ...] = (*BASE, "uw-slow", "dao-1", "dao-paper")
    sgd: tuple[str, ...] = (*BASE, "dao-tasks", "dao-unit", "dao-1-unit")
    tuned_adamw: tuple[str, ...] = (
        "equal", "uw", "gls", "famo", "norm0", "upgrad", "dao", "dao-1",
    )  # fmt: skip
    tuned_sgd: tuple[str, ...] = ("equal", "famo", "norm0", "dao", "dao-tasks", "dao-unit")
    steps: int = 150
    budgets: tuple[int, ...] = (60, 150)
    progress: tuple[str, ...] = (
        "equal", "uw", "gls", "famo", "norm0", "autoscale", "dbmtl", "dao", "dao-10", "dao-rep",
        "dao-1", "dao-paper",
    )  # fmt: skip
    seeds: int = 10


QUICK = Design(
    factors=(1e-4, 1.0, 1e4), tuned_factors=(1e-4, 1.0), adamw=("equal", "norm0", "dao"),
    sgd=("equal", "dao", "dao-unit"), tuned_adamw=("equal", "dao"), tuned_sgd=("equal", "dao-unit"),
    steps=30, budgets=(20,), progress=("equal", "dao", "dao-1"),
    seeds=2,
)  # fmt: skip


def sweeps(data: str, design: Design, folder: Path, processes: int) -> Iterator[list[Sweep]]:
    """Make what is missing: first at the fixed rates, then with a rate per row; each as it is done.

    Yields:
        The lines of every table.
    """
    yield _made(_tables(data, design, None), folder, processes, tuned=False)
    cells = {cell: RATES[cell.optimizer] for cell in _cells(data, design)}
    tried = complete(tuning_jobs(cells), folder, processes, run)
    yield _made(_tables(data, design, tried), folder, processes, tuned=True)


Jobs = dict[tuple[str, float], list[Job]]


def _cells(data: str, design: Design) -> list[Job]:
    """What a rate is chosen for."""
    swept = [("adamw", arm, design.steps) for arm in design.tuned_adamw]
    swept += [("sgd", arm, design.steps) for arm in design.tuned_sgd]
    swept += [("adamw", arm, n) for n in design.budgets for arm in design.progress]
    return [Job(data, arm, 0, 0.0, steps, optimizer) for optimizer, arm, steps in swept]


def _tables(data: str, design: Design, tried: Lines | None) -> list[tuple[str, str, Jobs]]:
    """Kind of the columns, optimizer, and jobs by row and column."""
    tuned = tried is not None
    rows = {
        "adamw": design.tuned_adamw if tuned else design.adamw,
        "sgd": design.tuned_sgd if tuned else design.sgd,
    }
    factors = design.tuned_factors if tuned else design.factors

    def jobs(arm: str, optimizer: str, factor: float, steps: int) -> list[Job]:
        rates, cell = RATES[optimizer], Job(data, arm, 0, 0.0, steps, optimizer)
        rate = rates.fixed if tried is None else best_rate(cell, rates, tried)
        return [
            replace(cell, seed=seed, rate=rate, factor=factor, curve=factor == 1)
            for seed in range(design.seeds)
        ]

    found = []
    for optimizer, arms in rows.items():
        pairs = product(arms, factors)
        swept = {(arm, f): jobs(arm, optimizer, f, design.steps) for arm, f in pairs}
        found.append(("factor", optimizer, swept))
    pairs = product(design.progress, design.budgets)
    short = {(arm, float(n)): jobs(arm, "adamw", 1.0, int(n)) for arm, n in pairs}
    return [*found, ("steps", "adamw", short)]


def _made(
    tables: Sequence[tuple[str, str, Jobs]], folder: Path, processes: int, *, tuned: bool
) -> list[Sweep]:
    each = [job for _, _, jobs in tables for row in jobs.values() for job in row]
    lines = complete(each, folder, processes, run)
    return [
        Sweep(
            kind,
            optimizer,
            tuned,
            {key: [lines[job.key] for job in row] for key, row in jobs.items()},
        )
        for kind, optimizer, jobs in tables
    ]


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
    seeds: Annotated[int, typer.Option(min=2, help="Tested.")] = Design.seeds,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few rows, 2 seeds, 30 steps.")] = False,
    output: Annotated[Path, typer.Option(help="Where all results go.")] = Path("results/scale"),
) -> None:
    """Run what is missing and write the tables."""
    with user_errors():
        design = QUICK if quick else Design(seeds=seeds)
        plan = keep_plan(output, ABOUT, _settings(data, design))
        done: list[Sweep] = []
        for more in sweeps(data, design, output, jobs):
            done += more
            write_page(output, plan, done)
            plain_console().print(f"{output / 'README.md'}", highlight=False)


if __name__ == "__main__":
    app()
