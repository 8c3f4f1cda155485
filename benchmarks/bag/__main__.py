"""Where dendrites help: linear heads on counts of words, beside as many parameters spent otherwise.

python -m benchmarks.bag --jobs 2                      # ten minutes on two cores
python -m benchmarks.bag --quick --output /tmp/bag     # half a minute

The generated headlines are counted word by word, and a head for the class and one for the score
learn from the counts. Linear heads cannot tell how words act on each other; dendrites and a hidden
layer can. Each seed has a table, a split, an initialisation and an order of batches of its own, the
same for all arms, and each arm a learning rate, which validation chooses on seeds that are not
tested. Models are selected on validation. The plan is written before the first run, and each run is
a line of runs.jsonl, so that the command can be stopped and given again.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bag.page import write_page
from benchmarks.bag.training import ARMS, BATCH, DECAY, EVERY, RAREST, STEPS, TIMES, Job, run
from benchmarks.frozen.rates import Rates, best_rate, tuning_jobs
from benchmarks.frozen.runner import complete, keep_plan
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console

RATES = Rates(fixed=0.003, tried=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03), seeds=(100, 101))
ROWS, FIRST = 20_000, 200
ABOUT = (
    "Do dendrites help where a layer lacks nonlinearity, and do they help more than a hidden layer "
    "of as many parameters? Heads for class and score on counts of the words of generated "
    "headlines. Score: the mean of accuracy and R2 on test, at the validation with the highest "
    "such mean. Dendrites are perforatedai's. Controls restart from the best weights, with a new "
    "optimizer, after the steps at which sets are added; so all arms train as many steps. Each arm "
    "has the rate with the best mean validation score on the seeds of tuning. An earlier run with "
    "other seeds had no rate below .001, which two controls had chosen, and no control with three "
    "restarts at the plain rate; it found the same order."
)

app = typer.Typer(add_completion=False)


@app.command()
def main(
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seeds: Annotated[int, typer.Option(min=2, max=100)] = 10,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path(
        "results/dendrites-bag"
    ),
    quick: Annotated[bool, typer.Option(help="Two seeds, few rows and steps.")] = False,
) -> None:
    """Make the runs that are missing, and write the page."""
    with user_errors():
        rows, steps, count = (600, 400, 2) if quick else (ROWS, STEPS, seeds)
        numbers = range(FIRST, FIRST + count)
        settings = {
            "arms": {name: asdict(arm) for name, arm in ARMS.items()},
            "seeds": list(numbers),
            "rates tried": RATES.tried, "seeds of tuning": RATES.seeds,
            "rows": rows, "steps": steps,
            "steps between validations": EVERY, "batch": BATCH, "weight decay": DECAY,
            "optimizer": "AdamW, constant rate", "texts that a counted word occurs in": RAREST,
            "rate of dendrites, times": TIMES,
        }  # fmt: skip
        plan = keep_plan(output, ABOUT, settings)
        cells = [Job(arm, FIRST, RATES.fixed, rows, steps) for arm in ARMS]
        tried = complete(tuning_jobs(dict.fromkeys(cells, RATES)), output, jobs, run)
        chosen = {cell.arm: best_rate(cell, RATES, tried) for cell in cells}
        tested = [replace(c, seed=n, rate=chosen[c.arm]) for n in numbers for c in cells]
        lines = complete(tested, output, jobs, run)
        write_page(output, plan, chosen, [lines[job.key] for job in tested])
        plain_console().print(f"{output / 'README.md'}", highlight=False)


if __name__ == "__main__":
    app()
