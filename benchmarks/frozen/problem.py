"""A table and a seed to a problem: parts for training, validation and test, and batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.frozen.tables import Table

__all__ = ["Problem", "Target", "batches", "make_problem", "sampled_together"]

SHARES = (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class Target:
    """What one task learns.

    Attributes:
        values: (rows,): classes, or numbers brought to mean 0 and variance 1 of training.
        known: (rows,): where there is one.
        spread: standard deviation in training, in the target's own unit; 1 for classes.
        classes: how many; 0 for numbers.
    """

    values: Tensor
    known: Tensor
    spread: float
    classes: int


@dataclass(frozen=True)
class Problem:
    """Inputs (rows, width), standardised on training rows; targets; rows of each part."""

    inputs: Tensor
    targets: dict[str, Target]
    train: Tensor
    validation: Tensor
    test: Tensor


def make_problem(table: Table, seed: int, tasks: Sequence[str] = ()) -> Problem:
    """A random split into 70, 15 and 15 %, groups whole, and what is standardised by it.

    Args:
        table: the rows.
        seed: of the split.
        tasks: which to learn; empty: all.
    """
    train, validation, test = _split(table, seed)
    seen_inputs = table.inputs[train]
    spreads = seen_inputs.std(0)
    # A column that is constant in training (a rare category, say) must not explode elsewhere.
    inputs = (table.inputs - seen_inputs.mean(0)) / torch.where(spreads < 1e-6, 1.0, spreads)
    targets: dict[str, Target] = {}
    for task in tasks or table.tasks:
        if task in table.classes:
            values = table.classes[task]
            targets[task] = Target(values, values >= 0, 1.0, int(values.max()) + 1)
            continue
        numbers = table.numbers[task]
        known = ~numbers.isnan()
        seen = numbers[train][known[train]]
        spread = float(seen.std())
        scaled = ((numbers - seen.mean()) / spread).nan_to_num().float()
        targets[task] = Target(scaled, known, spread, 0)
    return Problem(inputs, targets, train, validation, test)


def _split(table: Table, seed: int) -> list[Tensor]:
    rows = len(table.inputs)
    groups = table.groups if len(table.groups) else torch.arange(rows)
    draw = torch.Generator().manual_seed(seed)
    place = torch.randperm(int(groups.max()) + 1, generator=draw)[groups].double()
    place /= place.max() + 1
    first, second = SHARES[0], SHARES[0] + SHARES[1]
    masks = (place < first, (place >= first) & (place < second), place >= second)
    return [mask.nonzero()[:, 0] for mask in masks]


def sampled_together(problem: Problem) -> list[list[str]]:
    """Tasks by the rows that they have: those with the same rows share a part of each batch."""
    found: dict[bytes, list[str]] = {}
    for task, target in problem.targets.items():
        found.setdefault(target.known.numpy().tobytes(), []).append(task)
    return list(found.values())


def batches(problem: Problem, size: int, seed: int) -> Iterator[tuple[Tensor, dict[str, slice]]]:
    """Endless batches: rows, and which of them each task looks at.

    Every group of tasks with the same rows has the same part of a batch, in an order of its own.

    Args:
        problem: whose training rows are drawn.
        size: rows of a batch.
        seed: of the order.
    """
    groups = sampled_together(problem)
    part = size // len(groups)
    streams = []
    for number, tasks in enumerate(groups):
        rows = problem.train[problem.targets[tasks[0]].known[problem.train]]
        streams.append(_shuffled(rows, part, 1000 * seed + number))
    places = {
        task: slice(number * part, (number + 1) * part)
        for number, tasks in enumerate(groups)
        for task in tasks
    }
    while True:
        yield torch.cat([next(stream) for stream in streams]), places


def _shuffled(rows: Tensor, part: int, seed: int) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    left = rows[:0]
    while True:
        while len(left) < part:
            left = torch.cat([left, rows[torch.randperm(len(rows), generator=draw)]])
        yield left[:part]
        left = left[part:]
