"""Two finished models beside each other: figures, speed and size on the same test rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.table import Table

from dao.errors import UserError
from dao.learner.basics.limits import TOGETHER
from dao.learner.basics.program import command
from dao.learner.basics.tables import figure_cells, titled
from dao.learner.batches.batching import sorted_batches
from dao.learner.console.command import show_tables
from dao.learner.console.result_tables import figures_across
from dao.learner.experiment.findings.comparable import check_same_test
from dao.learner.experiment.findings.runs import read_run
from dao.learner.inference.predictor import Predictor
from dao.learner.inference.sizes import disk_bytes
from dao.learner.inference.speed import (
    BATCH,
    Timed,
    inputs,
    outputs,
    single_rows,
    take_turns,
    times,
)
from dao.learner.kinds import Task
from dao.learner.scoring.scoring import measure
from dao.learner.storage.record import RunFolder

__all__ = ["beside", "beside_lines", "beside_tables", "print_beside"]

Loaded = tuple[RunFolder, Predictor[Any], Mapping[str, Task]]
SPEED = {
    "mean_ms": "mean ms ↓",
    "p50_ms": "p50 ms ↓",
    "p95_ms": "p95 ms ↓",
    "p99_ms": "p99 ms ↓",
    "sentences_per_s": "sentences/s ↑",
}


def print_beside(one: Loaded, other: Loaded, rows: pd.DataFrame, style: str) -> None:
    """Measure two runs and print both; progress goes to stderr."""
    found = beside(one, other, rows, lambda line: print(line, file=sys.stderr))
    show_tables(found, beside_tables(found), beside_lines(found), style)


def beside(
    one: Loaded, other: Loaded, rows: pd.DataFrame, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure two runs on the test rows they share, taking turns in one process.

    Args:
        one: the folder of a finished run, its model and its tasks.
        other: the same of the run to compare with.
        rows: of the test split; those without a label of a shared task are left out.
        tell: takes a line as each stage begins.

    Returns:
        JSON-able: `a` and `b` with path, arm, encoder, figures per task, headline, the class whose
        own figures are given, parameters, megabytes on the disk, latency in ms of single texts and
        throughput in batches of 64; `ratio`, the median over rounds of a's time to b's; `notes`.

    Raises:
        UserError: they share no task, their test rows differ, or a run cannot be read.
    """
    shared = [name for name in one[2] if name in other[2]]
    if not shared:
        raise UserError(
            f"Runs that are compared should share a task. Found none in {one[0].path} and "
            f"{other[0].path}."
        )
    check_same_test([read_run(folder.path) for folder, _, _ in (one, other)])
    rows = rows[rows[shared].notna().any(axis=1)]
    timed, sides = [], []
    for label, (folder, predictor, whole) in zip("ab", (one, other), strict=True):
        tasks = {name: whole[name] for name in shared}
        examples = predictor.examples(rows, tasks)
        batches = inputs(predictor, examples, list(sorted_batches(examples.lengths, BATCH)))
        singles = inputs(predictor, examples, single_rows(len(rows)))
        timed.append(Timed(label, predictor.model.eval(), batches, singles))
        sides.append(_side(folder, tasks, measure(tasks, outputs(timed[-1]), examples.targets)))
        sides[-1]["tokens"] = int(sum(examples.lengths))
    left_out = _leave_out_other_classes(sides)
    take_turns(timed, tell)
    for row, side in zip(timed, sides, strict=True):
        side |= times(row, len(rows), side["tokens"])
    return {
        "texts": len(rows),
        "single_texts": len(timed[0].calls),
        "rounds": len(timed[0].passes),
        "threads": torch.get_num_threads(),
        "a": sides[0],
        "b": sides[1],
        "notes": left_out,
        "ratio": float(np.median(np.divide(timed[0].passes, timed[1].passes))),
    }


def beside_tables(found: Mapping[str, Any]) -> list[Table]:
    """A row per run: its headline figures; its parameters, size, latency and throughput."""
    sides = {f"{k.upper()}: {found[k]['arm']}, {found[k]['encoder']}": found[k] for k in "ab"}
    both = [
        (task, metric, arrow)
        for side in sides.values()
        for task, own in side["headline"].items()
        for metric, arrow in own
    ]
    shown = list(dict.fromkeys(both))
    words = [
        side["of_class"][task][metric]
        for side in sides.values()
        for task, metric, _ in shown
        if metric in side["of_class"].get(task, {})
    ]
    classes = sorted({repr(c) for side in sides.values() for c in side["positive"].values()})
    called = " or ".join(sorted(set(words)))
    title = f"test; {called}: {' or '.join(classes)}" if words else "test"
    cost = titled("cost", ["", "parameters ↓", "MB on disk ↓", *SPEED.values()])
    for label, side in sides.items():
        size = f"{side['parameters']:,}", f"{side['disk_megabytes']:.2f}"
        cost.add_row(label, *size, *(f"{side[key]:,.2f}" for key in SPEED))
    if len({task for task, _, _ in shown}) > TOGETHER:
        headline = {t: [(m, a) for of, m, a in shown if of == t] for t, _, _ in shown}
        models = {label: side["figures"] for label, side in sides.items()}
        return [*figures_across(title, headline, models), cost]
    heads = (f"{task} {metric} {arrow}" for task, metric, arrow in shown)
    figures = titled(title, ["", *heads])
    cells = figure_cells([s["figures"] for s in sides.values()], [(t, m) for t, m, _ in shown])
    for label, own in zip(sides, cells, strict=True):
        figures.add_row(label, *own)
    return [figures, cost]


def beside_lines(found: Mapping[str, Any]) -> Sequence[str]:
    """Lines: the paths of both runs, how they were timed, and what to look at further."""
    return [
        *(f"{letter.upper()}: {found[letter]['path']}" for letter in "ab"),
        f"a pass of A takes {found['ratio']:.2f} of B's time; {found['rounds']} rounds over "
        f"{found['texts']} texts in batches of {BATCH}, latency of {found['single_texts']} single "
        f"texts, both in turns; token ids to outputs; {found['threads']} threads",
        *found["notes"],
        f"whether figures differ beyond chance: {command('compare')} A B, for two runs over the "
        f"test rows, for two folders with runs in seed=N also over seeds",
    ]


def _leave_out_other_classes(sides: Sequence[dict[str, Any]]) -> list[str]:
    """Drop the figures of one class where the sides mean different classes, and say so."""
    notes = []
    for task in sides[0]["figures"]:
        a, b = (side["positive"].get(task) for side in sides)
        if a is None or b is None or a == b:
            continue
        notes.append(f"{task}: figures of one class left out: of {a!r} in A, of {b!r} in B")
        for side in sides:
            of_class = side["of_class"][task]
            kept = {k: v for k, v in side["figures"][task].items() if k not in of_class}
            side["figures"][task] = kept
            side["headline"][task] = [pair for pair in side["headline"][task] if pair[0] in kept]
            del side["positive"][task]
    return notes


def _side(
    folder: RunFolder, tasks: Mapping[str, Task], figures: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    metrics, cfg = folder.read("metrics.json"), folder.config()
    added = (metrics.get("dendrites") or {}).get("parameters_kept", 0)
    return {
        "path": str(folder.path),
        "arm": cfg.arm,
        "encoder": metrics["provenance"].get("encoder", {}).get("name", cfg.encoder.name),
        "positive": {n: c for n, task in tasks.items() if (c := task.to_dict().get("positive"))},
        "headline": {name: list(task.headline) for name, task in tasks.items()},
        "figures": dict(figures),
        "of_class": {
            name: {figure.key: figure.of_class for figure in task.own_figures if figure.of_class}
            for name, task in tasks.items()
        },
        "parameters": metrics["parameters"]["total"] + added,
        "disk_megabytes": disk_bytes(folder) / 1e6,
    }
