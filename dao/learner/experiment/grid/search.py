"""`--grid`: a run for every combination of values, and the one that is best on validation."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from dao.errors import UserError
from dao.learner.basics.numbers import aligned
from dao.learner.basics.tables import titled
from dao.learner.basics.words import read_yaml, settled
from dao.learner.console.command import print_plan, print_results, show_tables
from dao.learner.console.terminal import plain_console
from dao.learner.experiment.arms import PLACES
from dao.learner.experiment.grid.factorial import Cell, check_not_other
from dao.learner.experiment.grid.job import Outcome
from dao.learner.experiment.grid.options import Options, check_one_process
from dao.learner.experiment.grid.work import outcomes, tidy
from dao.learner.kinds import KINDS
from dao.learner.kinds.declared import settled_task
from dao.learner.scoring.assessment import TableLike
from dao.learner.settings.config import Config, load_config
from dao.learner.storage.files import write_atomically
from dao.learner.storage.record import RunFolder

__all__ = [
    "cells",
    "is_fixed",
    "kept_score",
    "of_task",
    "read_grid",
    "run_search",
    "settled_values",
]

FILE = "grid.json"
# Settings that a grid must not vary: validation scores of such runs cannot be compared.
FIXED = (*PLACES, "tasks", "split_tasks", "seed", "data", "train.select_weights")
OF_TASKS = frozenset().union(*(kind.options.decide_scores for kind in KINDS.values()))
LONGEST = 150  # characters of a folder's name


def read_grid(options: Sequence[str]) -> dict[str, list[Any]]:
    """Settings and the values of each, from texts such as train.lr=1e-4,1e-3.

    Raises:
        UserError: not of this form, one value twice, or a setting that a grid should not vary.

    Example:
        >>> read_grid(["train.epochs=2,4", "encoder.lora.targets=[query],[query,key]"])
        {'train.epochs': [2, 4], 'encoder.lora.targets': [['query'], ['query', 'key']]}
    """
    found: dict[str, list[Any]] = {}
    for text in options:
        key, equals, listed = text.partition("=")
        try:
            values = settled_values(key, read_yaml(f"[{listed}]")) if equals else None
        except (yaml.YAMLError, RecursionError):
            values = None
        if not key or not values or key in found:
            raise UserError(
                f"--grid should look like train.lr=1e-4,1e-3, once per setting. Found {text!r}."
            )
        if len({str(value) for value in values}) < len(values):
            raise UserError(f"--grid should name each value once. Found {text!r}.")
        if is_fixed(key):
            raise UserError(
                f"--grid should vary settings whose runs are scored alike. Found {key!r}. Train "
                f"with each value by itself, and compare over several seeds."
            )
        found[key] = values
    return found


def of_task(key: str) -> tuple[str, str] | None:
    """The task and the option of `topic.loss` or `tasks.topic.loss`; None of another setting."""
    parts = key.removeprefix("tasks.").split(".")
    return (parts[0], parts[1]) if len(parts) == 2 and parts[0] not in Config.model_fields else None


def is_fixed(key: str) -> bool:
    """Whether runs that differ in this setting are not scored alike."""
    if option := of_task(key):
        return option[1] in OF_TASKS
    return any(key == name or key.startswith(f"{name}.") for name in FIXED)


def settled_values(key: str, values: Sequence[Any]) -> list[Any]:
    """The values as the setting takes them: text as typed where the setting is text."""
    if option := of_task(key):
        return [settled_task(option[0], {option[1]: value})[option[1]] for value in values]
    parts, found = key.split("."), []
    for value in values:
        tree: Any = value
        for name in reversed(parts):
            tree = {name: tree}
        tree = settled(Config, tree)
        for name in parts:
            tree = tree[name]
        found.append(tree)
    return found


def cells(
    settings: tuple[Path | None, list[str], Mapping[str, Any]], grid: Mapping[str, Sequence[Any]]
) -> list[Cell]:
    """The runs, one per combination of values.

    Args:
        settings: that all runs have, as `load_config` takes them.
        grid: as `read_grid` gives it.

    Raises:
        UserError: unusable settings.
    """
    path, overrides, flags = settings
    shared = load_config(path, overrides, flags)
    folder = search_folder(shared)
    found = []
    for values in itertools.product(*grid.values()):
        own = dict(zip(grid, values, strict=True))
        label = re.sub(r"[^\w.=,+-]", "_", ",".join(f"{k}={v}" for k, v in own.items()))
        if len(label) > LONGEST:
            raise UserError(
                f"A combination should make a folder's name of at most {LONGEST} characters. Found "
                f"{len(label)}. Vary fewer settings."
            )
        place = {"output": str(folder / label / f"seed={shared.seed}")}
        own = {".".join(of_task(key) or [key]): value for key, value in own.items()}
        cfg = load_config(path, overrides, {**flags, **own, **place})
        found.append(Cell(label, cfg.seed, cfg))
    return found


def search_folder(shared: Config) -> Path:
    """Where the runs go."""
    return Path(shared.output or f"results/grid-{shared.data_name}")


def run_search(
    settings: tuple[Path | None, list[str], Mapping[str, Any]],
    grid: Mapping[str, Sequence[Any]],
    jobs: int | None,
    command: Sequence[str],
    read_data: Callable[[Config], tuple[Config, TableLike, object]],
    *,
    dry_run: bool = False,
) -> None:
    """Run what is missing of a grid, and name the run that is best on validation.

    Figures on test are shown of that one alone: the others were looked at for choosing.

    Args:
        settings: that all runs have; YAML file, overrides and flags.
        grid: as `read_grid` gives it.
        jobs: runs at a time.
        command: what trains; it is given the arguments of `dao train`.
        read_data: the table of a run, or the error for which it would be refused.
        dry_run: only show what would be done.

    Raises:
        UserError: unusable settings; a folder with another run; runs that failed.
        typer.Exit: stopped.
    """
    check_one_process()
    combinations = [
        cell._replace(cfg=read_data(cell.cfg)[0]) if cell.cfg.undecided else cell
        for cell in cells(settings, grid)
    ]
    for cell in combinations:
        check_not_other(cell)
    folder = search_folder(load_config(*settings))
    console = plain_console(stderr=not dry_run, soft_wrap=True)
    missing = [cell for cell in combinations if not RunFolder(cell.cfg.folder).finished]
    for cell in missing:
        read_data(cell.cfg)
    if dry_run:
        for cell in combinations:
            console.print(f"# {cell.arm}", highlight=False)
        print_plan(combinations[0].cfg, read_data(combinations[0].cfg)[1])
        return
    failed: list[Outcome] = []
    done = len(combinations) - len(missing)
    console.print(f"{folder}: {done} of {len(combinations)} runs are done", highlight=False)
    try:
        for outcome in outcomes(missing, folder, Options(jobs=jobs), command):
            done += 1
            failed += [] if outcome.finished else [outcome]
            end = "done" if outcome.finished else f"failed: {outcome.reason}"
            line = f"{done}/{len(combinations)} {outcome.name}: {end}"
            console.print(line, highlight=False)
    except KeyboardInterrupt:
        console.print("stopped; the same command again continues with what is missing")
        raise typer.Exit(130) from None
    tidy(combinations, folder)
    _conclude(combinations, grid, folder)
    if failed:
        raise UserError(
            f"Every run should end. Found {len(failed)} that did not, and are no part of the "
            f"choice: {failed[0].name}: {failed[0].reason}. Give the same command again: it runs "
            f"what is missing."
        )


def _conclude(combinations: Sequence[Cell], grid: Mapping[str, Any], folder: Path) -> None:
    ended = [cell for cell in combinations if RunFolder(cell.cfg.folder).finished]
    ranked = sorted(((kept_score(cell), cell) for cell in ended), key=lambda pair: -pair[0])
    if not ranked:
        return
    flat = {cell.arm: _values(cell, grid) for cell in ended}
    table = titled("validation", [*grid, "score ↑"])
    scores = aligned([score for score, _ in ranked])
    for shown, (_, cell) in zip(scores, ranked, strict=True):
        table.add_row(*map(str, flat[cell.arm]), shown)
    best = ranked[0][1]
    content = {
        "selected": str(best.cfg.folder),
        "selected_by": "validation score",
        "runs": [
            {"run": str(c.cfg.folder), "score": s, **dict(zip(grid, flat[c.arm], strict=True))}
            for s, c in ranked
        ],
    }
    write_atomically(folder / FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    lines = [f"best on validation: {best.arm}; test figures are shown of it alone"]
    show_tables(content, [table], lines, "terminal")
    print_results(RunFolder(best.cfg.folder).read("metrics.json"), best.cfg.folder)


def kept_score(cell: Cell) -> float:
    """The validation score of the model that a run kept."""
    folder = RunFolder(cell.cfg.folder)
    step = folder.read("metrics.json", "training")["training"]["selected_after_step"]
    rows = folder.rows("validation.jsonl")
    return next(float(row["score"]) for row in rows if row["step"] == step)


def _values(cell: Cell, grid: Mapping[str, Any]) -> list[Any]:
    found = []
    for key in grid:
        value: Any = cell.cfg.model_dump(mode="json")
        value |= value["tasks"]  # their options may be given without `tasks.`
        for part in key.split("."):
            value = value[part]
        found.append(value)
    return found
