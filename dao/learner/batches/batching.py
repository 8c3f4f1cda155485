"""Rows to batches: of similar length, by rows or by tokens, in an order fixed by the seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from dao.errors import UserError
from dao.learner.batches.packing import Numbers, Segments, first_fit, places
from dao.learner.batches.prefix_store import PrefixStates
from dao.learner.batches.tokens import Tokens

__all__ = [
    "Batch",
    "Examples",
    "collate",
    "epoch_batches",
    "fingerprint",
    "micro_batches",
    "send",
    "sorted_batches",
]

# Batches are cut from runs of this many batches sorted by length: similar lengths, yet mixed.
SORT_WINDOW = 50


@dataclass(frozen=True)
class Examples:
    """Token ids and targets of one split, row by row.

    `targets[task]` has one entry per row; a row without a label carries the task's missing mark.
    `prefix` has the states of frozen layers, where they are cached.
    """

    ids: Sequence[Sequence[int]]
    targets: Mapping[str, Tensor]
    prefix: PrefixStates | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens per row."""
        if isinstance(self.ids, Tokens):
            listed: list[int] = self.ids.lengths.tolist()
            return listed
        return [len(row) for row in self.ids]


@dataclass(frozen=True)
class Batch:
    """Rows of `Examples`, padded to the longest: ids and mask are (batch, length).

    `tokens` counts the real ones, without padding. Packed rows share lines: ids and mask are then
    (lines, width), and `segments` says which token is whose. Targets are in the order of `rows`.
    `prefix` (batch, length, width) are the states of the frozen layers, where they are cached.
    """

    rows: tuple[int, ...]
    input_ids: Tensor
    attention_mask: Tensor
    targets: Mapping[str, Tensor]
    tokens: int
    segments: Segments | None = None
    prefix: Tensor | None = None

    @property
    def digest(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.rows)


def fingerprint(rows: Sequence[int]) -> str:
    """A short name for which rows these are, in order."""
    return f"{zlib.crc32(repr(tuple(rows)).encode()):08x}"


def epoch_batches(
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    epoch: int,
    batch_tokens: int | None = None,
    *,
    accumulate: int = 1,
    drawn: Numbers | None = None,
) -> list[tuple[int, ...]]:
    """Row numbers of each optimizer step of one epoch, decided by the arguments alone.

    Rows are shuffled, cut into windows of 50 steps, sorted by length within each window, cut
    into steps, and the steps shuffled again. Every row occurs once, or as often as it was drawn;
    only the last window may end in a smaller step.

    Args:
        lengths: tokens per row.
        batch_size: rows per batch.
        seed: with `epoch`, decides the order.
        epoch: from 0.
        batch_tokens: in place of `batch_size`, the most that rows times the longest of them may
            come to; every window may then end in a smaller batch.
        accumulate: batches per step, which `micro_batches` cuts a step into.
        drawn: the rows of this epoch, in ascending order, some several times; None: each once.

    Raises:
        UserError: a row is longer than `batch_tokens`.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    chosen = np.arange(len(sizes)) if drawn is None else drawn
    if batch_tokens is not None:
        _check_budget(sizes, batch_tokens)
        batch_size = max(1, batch_tokens * len(chosen) // max(1, int(sizes[chosen].sum())))
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = chosen[torch.randperm(len(chosen), generator=generator).numpy()]
    step = batch_size * accumulate
    window = SORT_WINDOW * step
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        if drawn is not None:
            rows = _apart(rows, step)
        cuts = _cuts(sizes[rows], batch_size, batch_tokens)
        cuts = [*cuts[:-1:accumulate], cuts[-1]]
        listed = rows.tolist()
        batches += [tuple(listed[a:b]) for a, b in pairwise(cuts)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in shuffled]


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], batch_size: int, batch_tokens: int | None = None
) -> list[tuple[int, ...]]:
    """The rows of a step of `epoch_batches` as the batches that the step is made of."""
    sizes = np.fromiter((lengths[row] for row in rows), np.int64, len(rows))
    return [tuple(rows[a:b]) for a, b in pairwise(_cuts(sizes, batch_size, batch_tokens))]


def _apart(rows: Numbers, distance: int) -> Numbers:
    """Rows in order of length, the copies of each moved back by about `distance` places.

    Copies are equally long, so that sorting has brought them side by side, into one batch.
    """
    order = np.argsort(rows, kind="stable")
    firsts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    copy = np.empty_like(order)
    copy[order] = np.arange(len(rows)) - np.repeat(firsts, np.diff(firsts, append=len(rows)))
    moved: Numbers = rows[np.argsort(np.arange(len(rows)) + copy * distance, kind="stable")]
    return moved


def _check_budget(sizes: Numbers, batch_tokens: int) -> None:
    longest = int(sizes.max(initial=0))
    if longest > batch_tokens:
        raise UserError(
            f"`train.batch_tokens` should hold the longest training row. Found {batch_tokens}, and "
            f"a row of {longest} tokens. Raise it to {longest} or more, or lower "
            f"encoder.max_length."
        )


def _cuts(sizes: Numbers, batch_size: int, batch_tokens: int | None) -> list[int]:
    """Where batches of rows of these `sizes` begin and, last, end.

    By rows, or by tokens: each as many rows as fit, one after another.
    """
    if batch_tokens is None:
        return [*range(0, len(sizes), batch_size), len(sizes)]
    cuts = [0]
    while cuts[-1] < len(sizes):
        part = sizes[cuts[-1] :][: batch_tokens // sizes[cuts[-1]]]
        longest = np.maximum.accumulate(part)
        fits = np.arange(1, len(part) + 1) * longest <= batch_tokens
        cuts.append(cuts[-1] + int(fits.sum()))
    return cuts


def sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[tuple[int, ...]]:
    """Batches for evaluation, longest first, so that memory peaks at the start."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield tuple(order[start : start + batch_size])


def collate(
    examples: Examples,
    rows: Sequence[int],
    pad: int,
    device: torch.device,
    line_limit: int | None = None,
) -> Batch:
    """The given rows as tensors on `device`.

    Each row is padded on the right to the longest; with `line_limit`, rows are packed into lines
    of at most so many tokens instead.
    """
    ids = [examples.ids[i] for i in rows]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    order, totals = np.arange(len(ids)), lengths
    if line_limit is not None:
        lines = first_fit(lengths, line_limit)
        order = np.concatenate(lines)
        totals = np.array([lengths[line].sum() for line in lines])
    mask = np.arange(totals.max()) < totals[:, None]
    table = np.zeros((2 if line_limit is None else 3, *mask.shape), dtype=np.int64)
    table[0] = pad
    table[0][mask] = np.concatenate([ids[i] for i in order])
    table[1] = mask
    where = None
    if line_limit is not None:
        table[2][mask] = np.repeat(order + 1, lengths[order])
        where = send(torch.from_numpy(places(table[2], lengths)), device)
    input_ids, attention_mask, *owners = send(torch.from_numpy(table), device)
    index = torch.tensor(rows)
    return Batch(
        rows=tuple(rows),
        input_ids=input_ids,
        attention_mask=attention_mask,
        targets={task: send(values[index], device) for task, values in examples.targets.items()},
        tokens=int(lengths.sum()),
        segments=None if where is None else Segments(owners[0], where),
        prefix=send(examples.prefix.gather(rows, mask.shape[1]), device)
        if examples.prefix
        else None,
    )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy the tensor to `device` without making the host wait for the device's queued work."""
    if device.type != "cuda":
        return tensor.to(device)
    # The host waits for a copy unless it is from pinned memory.
    return tensor.pin_memory().to(device, non_blocking=True)
