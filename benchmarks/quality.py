"""What each loss weighting buys on held-out data: the same runs of the learner, paired by seed.

python -m benchmarks.quality --data my.csv
python -m benchmarks.quality --data my.csv --seeds 5 --jobs 2 --output results/weighting
    encoder.lora.last_layers=3 encoder.prefix_cache=true

Every weighting of `train.py`, a static grid and one run per task alone, in two settings: `natural`
(cross-entropy, and the squared error of a standardised score, whose gradients are alike in size)
and `scaled` (the score's target times ten, its loss times a hundred: a mismatch made on purpose).
Rows of several tasks differ in their weighting alone: data, splits, order of the batches, step
budget, validations and learning rate are equal. A task alone sees its own rows as often, so fewer
steps where rows have one label each, and is selected by its own figure; tables whose test rows
differ are refused. A run is done when its metrics.json exists, so that the command can be stopped
and given again; one with other settings is refused. Models are selected on validation; every figure
is of the test split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.runs import ended, failure, made, train_all
from dao.errors import UserError
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.arms import PAPER
from dao.learner.experiment.findings.comparable import check_same_test
from dao.learner.experiment.findings.runs import read_run
from dao.learner.experiment.findings.statistics import t_interval
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.record import RunFolder

__all__ = ["ARMS", "Arm", "cell", "interval", "table"]

METRICS = {"accuracy": "cls", "macro_f1": "cls", "mse": "reg", "r2": "reg"}
HEADS = {"accuracy": "accuracy", "macro_f1": "macro F1", "mse": "MSE", "r2": "R²"}
PAIRED = ("accuracy", "mse")  # also as differences from equal weights, seed by seed
COMPARED = "equal"
SETTINGS = {"natural": ["reg.scale=1"], "scaled": ["reg.scale=10"]}
GRID = {"natural": (0.1, 0.3, 3, 10, 30), "scaled": (0.001, 0.003, 0.01, 0.03, 0.1)}
PLAIN = [
    "gls", "uw", "uw_so", "dwa", "rlw", "gradnorm", "famo", "imtl_l", "dbmtl", "dbmtl:0.1", "norm0",
    "autoscale",
]  # fmt: skip
AGGREGATORS = ["UPGrad", "MGDA", "IMTLG", "AlignedMTL", "PCGrad"]

Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""metrics.json per row of the table and seed."""


class Arm(NamedTuple):
    """One row: its name, and what sets it apart from the others."""

    name: str
    overrides: tuple[str, ...]


def _weighted(name: str, *more: str) -> Arm:
    return Arm(name, (f"weighting={name.partition(' ')[0]}", *more))


def arms_of(setting: str) -> list[Arm]:
    """All rows of a setting, in the order of the table."""
    return [
        Arm("cls alone", ("tasks=[cls]",)),
        Arm("reg alone", ("tasks=[reg]",)),
        _weighted(COMPARED),
        *(_weighted(f"fixed:1,{weight:g}") for weight in GRID[setting]),
        _weighted("dao"),
        _weighted("dao rep", "dao.source=rep"),
        _weighted("dao paper", *(f"{key}={json.dumps(value)}" for key, value in PAPER.items())),
        *map(_weighted, PLAIN),
        *(_weighted(f"torchjd:{name}") for name in AGGREGATORS),
    ]


ARMS = {setting: arms_of(setting) for setting in SETTINGS}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % t interval; NaN for fewer than two values."""
    mean = float(np.mean(values)) if values else math.nan
    bounds = t_interval(values)
    return mean, math.nan if bounds is None else bounds[1] - mean


def table(found: Runs, seeds: int) -> list[str]:
    """Markdown lines of one setting.

    Args:
        found: metrics.json per arm and seed; an arm may lack seeds whose run stopped.
        seeds: how many each arm was meant to have.
    """
    heads = [*HEADS.values(), *(f"Δ {HEADS[metric]}" for metric in PAIRED)]
    lines = [f"| weighting | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += _baselines(found)
    for name, runs in found.items():
        cells = [cell([_test(m, metric) for m in runs.values()]) for metric in METRICS]
        cells += [cell(_paired(runs, found.get(COMPARED, {}), m), sign="+") for m in PAIRED]
        stopped = f" ({len(runs)} of {seeds} runs ended)" if len(runs) < seeds else ""
        lines.append(f"| {name}{stopped} | {' | '.join(cells)} |")
    return lines


def best_of_grid(found: Runs, seeds: int) -> str | None:
    """The static weights with the best mean of accuracy and R² on validation, over all seeds."""
    scores = {}
    for name, runs in found.items():
        if len(runs) == seeds and (name == COMPARED or name.startswith("fixed")):
            pairs = product(runs.values(), ("accuracy", "r2"))
            scores[name] = float(np.nanmean([_figure(m, k, "validation") for m, k in pairs]))
    return max(scores, key=lambda name: scores[name]) if len(scores) > 1 else None


def _figure(metrics: Mapping[str, Any], metric: str, split: str) -> float:
    value = metrics["splits"][split].get(METRICS[metric], {}).get(metric)
    return math.nan if value is None else float(value)


def _test(metrics: Mapping[str, Any], metric: str) -> float:
    return _figure(metrics, metric, "test")


def _paired(
    runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]], metric: str
) -> list[float]:
    return [_test(runs[s], metric) - _test(base[s], metric) for s in runs if s in base]


def cell(values: Sequence[float], sign: str = "") -> str:
    """Mean ± half the width of its 95 % t interval; values that are NaN are left out."""
    mean, half = interval([v for v in values if not math.isnan(v)])
    if math.isnan(mean):
        return ""
    return f"{mean:{sign}.4f}" + ("" if math.isnan(half) else f" ± {half:.4f}")


def _baselines(found: Runs) -> Iterator[str]:
    """Rows of the models that need no encoder; equal in all runs, as the data are."""
    run = next((m for m in found.get(COMPARED, {}).values()), None)
    for rows in run["baselines"]["test"].values() if run else ():
        for name, figures in rows.items():
            cells = [f"{figures[m]:.4f}" if m in figures else "" for m in METRICS]
            yield f"| *{name}* | {' | '.join(cells)} | | |"


def _config(setting: str, arm: Arm, seed: int, shared: Sequence[str], runs: Path) -> Config:
    folder = runs / setting / arm.name.replace(" ", "-").replace(":", "_") / f"seed={seed}"
    own = [*arm.overrides, *SETTINGS[setting], f"seed={seed}", f"output={folder}"]
    return load_config(None, [*shared, *own])


def _document(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of all runs.")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="As of train.py; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    setting: Annotated[str, typer.Option(help="natural, scaled or both.")] = "both",
    arms: Annotated[str, typer.Option(help="Rows, ';' between them; empty: all.")] = "",
    output: Annotated[Path, typer.Option(help="Where the tables go.")] = Path("results/weighting"),
    runs: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("results/weighting-runs"),
) -> None:
    """Run what is missing and write the tables."""
    with user_errors():
        _main(overrides or [], data or [], seeds, jobs, setting, arms, output, runs)


def _main(
    overrides: list[str], data: list[str], seeds: int, jobs: int, setting: str, names: str,
    output: Path, runs: Path,
) -> None:  # fmt: skip
    console = plain_console()
    shared = [f"data.sources={json.dumps(data)}", *overrides]
    chosen = [s for s in SETTINGS if setting in ("both", s)]
    if not chosen:
        raise UserError(f"--setting should be natural, scaled or both. Found {setting!r}.")
    rows = {s: _chosen(ARMS[s], names) for s in chosen}
    grid = {
        (s, arm.name, seed): Cell(f"{s}/{arm.name}", seed, _config(s, arm, seed, shared, runs))
        for seed in range(seeds)
        for s in chosen
        for arm in rows[s]
    }
    train_all([run for run in grid.values() if not ended(run)], runs, jobs, console)
    output.mkdir(parents=True, exist_ok=True)
    for s in chosen:
        part = {key[1:]: run.cfg for key, run in grid.items() if key[0] == s}
        done = {key: cfg.folder for key, cfg in part.items() if made(cfg)}
        check_same_test([read_run(path) for path in done.values()])
        found: dict[str, dict[int, Any]] = {arm.name: {} for arm in rows[s]}
        for (name, seed), path in done.items():
            found[name][seed] = RunFolder(path).read("metrics.json")
        lines = [*_caption(s, found, seeds, data, overrides), "", *table(found, seeds)]
        best = best_of_grid(found, seeds)
        if best:
            lines += ["", f"Of the static weights, validation chooses {best}."]
        stopped = {key: cfg for key, cfg in part.items() if key not in done}
        lines += [
            f"\n{name}, seed {seed}, stopped: {failure(cfg).read_text().strip()}"
            for (name, seed), cfg in stopped.items()
        ]
        _document(output / f"{s}.md", lines)
        console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _caption(
    setting: str, found: Runs, seeds: int, data: Sequence[str], overrides: Sequence[str]
) -> list[str]:
    splits = [m["splits"]["test"] for runs in found.values() for m in runs.values()]
    counts = {task: figures["n"] for split in splits for task, figures in split.items()}
    sizes = ", ".join(f"{task} n={count}" for task, count in sorted(counts.items()))
    names = ", ".join(Path(name).name for name in data) or "the embedded headlines"
    own = [o for o in overrides if not o.startswith("cache=")]
    return [
        f"# {setting}: {names}",
        "",
        f"Test split ({sizes}), mean ± half the 95 % t interval over {seeds} seeds of training; "
        f"Δ is the difference from equal weights at the same seed. Other test sentences would add "
        f"to this, and of so many rows some differ by chance. One learning rate for all rows. "
        f"Settings beside the defaults: {' '.join([*SETTINGS[setting], *own])}.",
    ]


def _chosen(arms: Sequence[Arm], names: str) -> list[Arm]:
    wanted = [name.strip() for name in names.split(";") if name.strip()]
    known = {arm.name for arms in ARMS.values() for arm in arms}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UserError(
            f"--arms should name rows of the table. Found {unknown[0]!r}; there are "
            f"{'; '.join(sorted(known))}."
        )
    return [arm for arm in arms if not wanted or arm.name in wanted]


if __name__ == "__main__":
    app()
