"""What experts with a router buy over one LoRA of their size, per domain, paired by seed.

python -m benchmarks.experts --config configs/finsa-moe.yaml --data my.csv --seeds 3 --jobs 2
    --output results/experts.md

Two runs of `train.py` per seed: the experts (whose one model is tested with soft and with hard
routing), and `experts.control=single`, one LoRA on all rows. The single LoRA has the lowest rank
with at least as many trainable parameters as experts and router together, the same alpha / rank,
learning rate and batch size, and takes as many optimizer steps as all stages of the experts
together, in one schedule. A step of stage 1 sees rows of one domain, and every other step rows of
all. Beside them: TF-IDF of words, or of runs of one to three characters for texts without spaces,
with a linear model, and the majority class or the mean, which see all training rows. Every figure
is of the test split; the models were selected on validation. A run is done when its metrics.json
exists, so that the command can be stopped and given again; one with other settings is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

import tasks
from benchmarks.quality import cell
from benchmarks.runs import ended, failure, made, train_all
from dao.errors import UserError
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.findings.comparable import check_same_test
from dao.learner.experiment.findings.runs import read_run
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.kinds import Task
from dao.learner.kinds.base import Labelled
from dao.learner.kinds.recorded import headlines
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.files import write_atomically
from dao.learner.storage.record import RunFolder

__all__ = ["document", "figures_of"]

ARMS = {"experts": "none", "single": "single"}
SINGLE = "one LoRA of their size"
PAIRS = (
    ("experts, soft", SINGLE),
    ("experts, hard", SINGLE),
    ("experts, soft", "experts, hard"),
)
ALL = "all"

Figures = Mapping[str, Mapping[str, Any]]
"""Group of rows (all, or a domain) -> task -> metric -> value, of one model."""
Models = Mapping[str, Mapping[int, Figures]]
"""Name of a model -> seed -> its figures."""


def figures_of(arm: str, metrics: Mapping[str, Any]) -> dict[str, Figures]:
    """The models of one run and their figures, from metrics.json."""
    if arm == "single":
        return {SINGLE: {ALL: metrics["splits"]["test"], **metrics["slices"]["test"]["domain"]}}
    routing = metrics["routing"]["test"]
    return {
        f"experts, {routed}": {ALL: routing[routed]["all"], **routing[routed]["domains"]}
        for routed in ("soft", "hard")
    }


def document(
    models: Models, baselines: Mapping[str, Figures], shown: Mapping[str, Any]
) -> list[str]:
    """Markdown: a table of figures and one of paired differences for each task.

    Args:
        models: trained, by seed.
        baselines: models that need no training run.
        shown: task -> figures to show, each with the arrow of its better direction.
    """
    lines = []
    for task, figures in shown.items():
        groups = _groups(models, task)
        heads = [f"{group} {metric} {arrow}" for group in groups for metric, arrow in figures]
        cells = [(group, metric) for group in groups for metric, _ in figures]
        counts = ", ".join(f"{group} n={n}" for group, n in groups.items())
        lines += [f"## {task} ({counts})", "", *_head("model", heads)]
        for name, runs in models.items():
            values = [cell([_value(f, g, task, m) for f in runs.values()]) for g, m in cells]
            lines.append(f"| {name} | {' | '.join(values)} |")
        for name, plain in baselines.items():
            if any(task in row for row in plain.values()):
                values = [cell([_value(plain, g, task, m)]) for g, m in cells]
                lines.append(f"| *{name}* | {' | '.join(values)} |")
        lines += ["", "Differences at the same seed:", "", *_head("models", heads)]
        for one, other in PAIRS:
            pairs = [[_difference(models, one, other, s, g, task, m) for s in models[one]]
                     for g, m in cells]  # fmt: skip
            values = [cell(pair, sign="+") for pair in pairs]
            lines.append(f"| {one} minus {other} | {' | '.join(values)} |")
        lines.append("")
    return lines


def _head(first: str, heads: Sequence[str]) -> list[str]:
    return [f"| {first} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]


def _groups(models: Models, task: str) -> dict[str, int]:
    """Groups of rows that have figures of the task, and how many rows."""
    runs = next(iter(models.values()))
    figures = next(iter(runs.values()))
    return {group: rows[task]["n"] for group, rows in figures.items() if task in rows}


def _value(figures: Figures, group: str, task: str, metric: str) -> float:
    value = figures.get(group, {}).get(task, {}).get(metric)
    return math.nan if value is None else float(value)


def _difference(
    models: Models, one: str, other: str, seed: int, group: str, task: str, metric: str
) -> float:
    if seed not in models[other]:
        return math.nan
    pair = (models[name][seed] for name in (one, other))
    first, second = (_value(figures, group, task, metric) for figures in pair)
    return first - second


def _plain(cfg: Config) -> dict[str, Figures]:
    """The baselines of the tasks, learned from all training rows, tested on each group of rows."""
    from dao.learner.pipeline.start import load_data

    _, table, tasks = load_data(cfg)
    test = table.rows("test")
    groups = {ALL: test, **dict(list(test.groupby("domain")))}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for group, rows in groups.items():
        for name, task in tasks.items():
            asked = _labelled(task, rows)
            if task.labelled(asked[1]).any():
                learnt, chosen = (_labelled(task, table.rows(s)) for s in ("train", "validation"))
                for label, figures in task.baselines(learnt, asked, chosen).items():
                    found.setdefault(label, {}).setdefault(group, {})[name] = figures
    return found


def _labelled(task: Task, rows: pd.DataFrame) -> Labelled:
    return rows["text"].tolist(), task.encode(rows[task.name].tolist())


def _facts(runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[str]:
    """What the runs were: sizes, steps, time; and what the router did."""
    lines = []
    for arm, metrics in runs.items():
        first = next(iter(metrics.values()))
        seconds = [m["training"]["seconds"] for m in metrics.values()]
        lines.append(
            f"- {SINGLE if arm == 'single' else arm}: {first['parameters']['trainable']:,} "
            f"trainable parameters with the heads, {first['training']['steps']:,} optimizer steps, "
            f"{sum(seconds) / len(seconds):.0f} s of training on average"
        )
    for name in ("accuracy", "usage"):
        shown = [m["routing"]["test"][name] for m in runs.get("experts", {}).values()]
        if shown and name == "accuracy":
            lines.append(f"- the router is right in {cell(shown)} of the test rows")
        elif shown:
            parts = (f"{n} {cell([u[n] for u in shown])}" for n in shown[0])
            lines.append(f"- mean weight of the experts on the test rows: {', '.join(parts)}")
    return lines


app = typer.Typer(add_completion=False)


@app.command()
def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings of all runs.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="As of train.py; repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 1,
    output: Annotated[Path, typer.Option(help="Where the table goes.")] = Path(
        "results/experts/table.md"
    ),
    runs: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("results/experts/runs"),
) -> None:
    """Run what is missing and write the table."""
    tasks.register()
    with user_errors():
        _main(config, overrides or [], data or [], seeds, jobs, output, runs)


def _main(
    path: Path | None, overrides: list[str], data: list[str], seeds: int, jobs: int, output: Path,
    runs: Path,
) -> None:  # fmt: skip
    from dao.learner.pipeline.start import load_data

    console = plain_console()
    shared = [*([f"data.sources={json.dumps(data)}"] if data else []), *overrides]
    first = load_config(path, shared)
    if first.undecided:  # once, for all runs
        first = load_data(first)[0]
    if not first.experts.names:
        raise UserError(
            "`experts.names` should be set, to compare experts with one LoRA. Found none. Give "
            "experts.names=[news,forum], or --config configs/finsa-moe.yaml."
        )
    grid = {
        (arm, seed): Cell(arm, seed, _config(path, shared, arm, seed, runs).with_tasks(first.tasks))
        for seed in range(seeds)
        for arm in ARMS
    }
    train_all([run for run in grid.values() if not ended(run)], runs, jobs, console)
    found, lost = _found({key: run.cfg for key, run in grid.items()})
    shown = headlines(next(iter(found["experts"].values())))
    lines = [*_caption(first, seeds, overrides), "", *_facts(found), *lost, ""]
    lines += document(_models(found), _plain(first), shown)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, "\n".join(lines).rstrip() + "\n")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _found(
    grid: Mapping[tuple[str, int], Config],
) -> tuple[dict[str, dict[int, Any]], list[str]]:
    """metrics.json per arm and seed, and a line for every run that stopped."""
    done = {key: cfg.folder for key, cfg in grid.items() if made(cfg)}
    stopped = {key: failure(cfg).read_text().strip() for key, cfg in grid.items() if not made(cfg)}
    lost = [f"- {arm}, seed {seed}, stopped: {why}" for (arm, seed), why in stopped.items()]
    check_same_test([read_run(path) for path in done.values()])
    found: dict[str, dict[int, Any]] = {}
    for (arm, seed), place in done.items():
        found.setdefault(arm, {})[seed] = RunFolder(place).read("metrics.json")
    if len(found) < len(ARMS):
        raise UserError(f"Both arms should have a run. Found: {'; '.join(lost)}.")
    return found, lost


def _models(found: Mapping[str, Mapping[int, Any]]) -> dict[str, dict[int, Figures]]:
    models: dict[str, dict[int, Figures]] = {}
    for arm, runs in found.items():
        for seed, metrics in runs.items():
            for name, figures in figures_of(arm, metrics).items():
                models.setdefault(name, {})[seed] = figures
    return models


def _config(path: Path | None, shared: Sequence[str], arm: str, seed: int, runs: Path) -> Config:
    own = [f"experts.control={ARMS[arm]}", f"seed={seed}", f"output={runs / arm / f'seed={seed}'}"]
    return load_config(path, [*shared, *own])


def _caption(cfg: Config, seeds: int, overrides: Sequence[str]) -> list[str]:
    own = [o for o in overrides if not o.startswith("cache=")]
    given = f"Settings given: {' '.join(own)}." if own else ""
    return [
        f"# Experts for {', '.join(cfg.experts.names)} against one LoRA: {cfg.data_name}",
        "",
        f"Test split, mean ± half the 95 % t interval over {seeds} seeds of training; differences "
        f"are taken at the same seed. Other test rows would add to this. The models in italics are "
        f"the same at every seed. {given}".rstrip(),
    ]


if __name__ == "__main__":
    app()
