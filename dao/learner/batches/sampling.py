"""How often the rows of each task come in training: which rows an epoch has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dao.learner.basics.limits import IN_A_LINE
from dao.learner.batches.packing import Numbers
from dao.learner.settings.train_section import parse_sampling

__all__ = ["Draws", "Labels", "make_draws", "sampling_counts", "sampling_line"]

Floats = npt.NDArray[np.float64]
Labels = Mapping[str, npt.ArrayLike]
"""Per task a (rows,) mask of the rows that have a label of it."""

GOLDEN = 0.6180339887498949  # its multiples, without their whole part, spread evenly over [0, 1)


@dataclass(frozen=True, eq=False)
class Draws:
    """Which rows an epoch has, where tasks do not come as often as they have rows.

    Rows with labels of the same tasks are a group. A group has an endless sequence of rows, one
    random order of all its rows after another, and every epoch goes on where the one before ended.
    So every row of a group comes once before any comes twice, within an epoch and across epochs.

    Attributes:
        groups: the row numbers of each.
        bounds: rows per epoch that the first 1, 2, ... groups have together, on average.
        seed: with the epoch, decides the rows.
    """

    groups: tuple[Numbers, ...]
    bounds: Floats
    seed: int

    def rows(self, epoch: int) -> Numbers:
        """The rows of an epoch, from 0, in ascending order: as many as the table has."""
        counts = self._counts(epoch)
        starts = counts[:-1].sum(0)
        parts = [self._part(g, int(starts[g]), int(counts[-1, g])) for g in range(len(self.groups))]
        drawn: Numbers = np.sort(np.concatenate(parts))
        return drawn

    def _counts(self, epoch: int) -> Numbers:
        """(epochs up to this one, groups): rows of each.

        All `bounds` are rounded at the same point between two whole numbers, another one in every
        epoch (systematic sampling, Madow 1949). So the rows of an epoch are always as
        many, and those of a group are its average, rounded up or down.
        """
        points = (np.arange(epoch + 1) * GOLDEN % 1)[:, None]
        ends = np.floor(np.concatenate([[0.0], self.bounds]) + points)
        counts: Numbers = np.diff(ends).astype(np.int64)
        return counts

    def _part(self, group: int, start: int, count: int) -> Numbers:
        rows = self.groups[group]
        first, last = start // len(rows), (start + count - 1) // len(rows)
        orders = [rows[:0], *(rows[self._order(group, n)] for n in range(first, last + 1))]
        return np.concatenate(orders)[start - first * len(rows) :][:count]

    def _order(self, group: int, number: int) -> Numbers:
        key = hashlib.sha256(f"{self.seed} {group} {number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        order: Numbers = torch.randperm(len(self.groups[group]), generator=generator).numpy()
        return order


def make_draws(labels: Labels, sampling: str, seed: int) -> Draws | None:
    """What `train.sampling` makes of a table; None where every epoch has each row once.

    With n_t the number of rows that have a label of task t, a task is to be met with probability
    p_t ~ n_t^(1/T) (Arivazhagan et al. 2019, arXiv 1907.05019; in mT5, arXiv 2010.11934, 1/T is
    called alpha): T = 1 is `proportional`, T = infinity `equal`.
    A row with a label of one task then comes at the rate p_t / n_t. A row with labels of several
    tasks comes at the mean of their rates, as if a task were drawn, then one of its rows, and a row
    of m tasks were kept once in m draws. From this follows that

    - T = 1 gives each row once, whatever labels it has;
    - tasks that share no row have exactly the shares p_t of an epoch;
    - tasks with equally many labels come as they are, at every T;
    - no row is left out. Where each row of a small task is also labelled for a large one, equal
      numbers of labels would leave out all other rows of the large task; the mean does not.

    Args:
        labels: per task; every row has a label of some task.
        sampling: as `parse_sampling` takes it.
        seed: of the run.

    Raises:
        ValueError: a row has no label, or there is no such sampling.

    Example:
        >>> draws = make_draws({"a": [1, 1, 1, 1, 1, 0], "b": [0, 0, 0, 0, 0, 1]}, "equal", seed=0)
        >>> [draws.rows(epoch).tolist() for epoch in range(2)]
        [[0, 2, 4, 5, 5, 5], [1, 1, 3, 5, 5, 5]]
    """
    temperature = parse_sampling(sampling)
    if temperature == 1:
        return None
    groups, expected = _groups(labels, temperature)
    # Rounding errors of sums that should be whole numbers are removed.
    bounds: Floats = np.cumsum(expected).round(6)
    return Draws(groups, bounds, seed)


def _groups(labels: Labels, temperature: float) -> tuple[tuple[Numbers, ...], Floats]:
    """The rows that have the same tasks, and how many of them an epoch has on average."""
    table = np.stack([np.asarray(mask, dtype=bool) for mask in labels.values()], axis=1)
    kinds, owner = np.unique(table, axis=0, return_inverse=True)
    owner = owner.reshape(-1)
    groups = tuple(np.flatnonzero(owner == g) for g in range(len(kinds)))
    sizes = np.bincount(owner).astype(np.float64)
    if temperature == 1:
        return groups, sizes
    if not kinds.any(axis=1).all():
        raise ValueError("Every training row should have a label of some task.")
    rates = np.maximum(table.sum(0), 1.0) ** (1 / temperature - 1)
    wanted = sizes * (kinds * rates).sum(1) / kinds.sum(1)
    return groups, len(table) * wanted / wanted.sum()


def sampling_counts(labels: Labels, sampling: str) -> dict[str, Any]:
    """What is recorded: rows with a label of each task, in the table and in an average epoch.

    Example:
        >>> sampling_counts({"a": [1, 1, 1, 0], "b": [0, 0, 0, 1]}, "equal")["tasks"]
        {'a': {'rows': 3, 'rows_per_epoch': 2.0}, 'b': {'rows': 1, 'rows_per_epoch': 2.0}}
    """
    groups, expected = _groups(labels, parse_sampling(sampling))
    tasks = {}
    for name, mask in labels.items():
        known = np.asarray(mask, dtype=bool)
        drawn = sum(e for g, e in zip(groups, expected, strict=True) if known[g[0]])
        tasks[name] = {"rows": int(known.sum()), "rows_per_epoch": round(float(drawn), 1)}
    return {"setting": sampling, "epoch_rows": sum(map(len, groups)), "tasks": tasks}


def sampling_line(counts: Mapping[str, Any]) -> str:
    """`sampling_counts` for a person; of many tasks, those with the fewest and the most rows.

    Example:
        >>> sampling_line(sampling_counts({"a": [1, 1, 1, 0], "b": [0, 0, 0, 1]}, "equal"))
        'sampling equal: an epoch of 4 rows has a 2 (of 3 labelled), b 2 (of 1 labelled)'
    """
    tasks = counts["tasks"]
    drawn = {t: f"{own['rows_per_epoch']:,.1f}".removesuffix(".0") for t, own in tasks.items()}
    if len(tasks) <= IN_A_LINE:
        has = ", ".join(f"{t} {drawn[t]} (of {own['rows']:,} labelled)" for t, own in tasks.items())
    elif len(set(drawn.values())) == 1:
        has = f"{next(iter(drawn.values()))} with a label of each of the {len(tasks)} tasks"
    else:
        ordered = sorted(tasks, key=lambda task: tasks[task]["rows_per_epoch"])
        few, many = (
            f"{drawn[t]} with a label of {t} (of {tasks[t]['rows']:,} labelled)"
            for t in (ordered[0], ordered[-1])
        )
        has = f"at least {few} and at most {many}; of the other tasks it has numbers in between"
    return f"sampling {counts['setting']}: an epoch of {counts['epoch_rows']:,} rows has {has}"
