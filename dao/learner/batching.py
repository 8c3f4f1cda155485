"""Texts to batches: token ids once, batches of similar length, an order fixed by the seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dao.learner.prefix_store import PrefixStates

__all__ = ["Batch", "Examples", "collate", "epoch_batches", "sorted_batches", "tokenize"]

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
        return [len(row) for row in self.ids]


@dataclass(frozen=True)
class Batch:
    """Rows of `Examples`, padded to the longest: ids and mask are (batch, length).

    `tokens` counts the real ones, without padding. `prefix` (batch, length, width) are the states
    of the frozen layers, where they are cached.
    """

    rows: tuple[int, ...]
    input_ids: Tensor
    attention_mask: Tensor
    targets: Mapping[str, Tensor]
    tokens: int
    prefix: Tensor | None = None

    @property
    def digest(self) -> str:
        """A short fingerprint of which rows these are, in order."""
        return f"{zlib.crc32(repr(self.rows).encode()):08x}"


def tokenize(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[list[int]]:
    """Token ids per text, cut at `limit`; a text that gives no token gets one of the pad id."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
    pad = pad_id(tokenizer)
    return [row or [pad] for row in ids]


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any valid id serves, because masks come from lengths and never from ids."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int
) -> list[tuple[int, ...]]:
    """Row numbers of each batch of one epoch, decided by (lengths, batch_size, seed, epoch) alone.

    Rows are shuffled, cut into windows of 50 batches, sorted by length within each window, cut
    into batches, and the batches shuffled again. Every row occurs once; only the last window may
    end in a smaller batch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    window = SORT_WINDOW * batch_size
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), window):
        rows = sorted(order[start : start + window], key=lambda i: lengths[i])
        batches += [tuple(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in shuffled]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[tuple[int, ...]]:
    """Batches for evaluation, longest first, so that memory peaks at the start."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield tuple(order[start : start + batch_size])


def collate(examples: Examples, rows: Sequence[int], pad: int, device: torch.device) -> Batch:
    """Pad the given rows on the right to the longest of them."""
    ids = [examples.ids[i] for i in rows]
    width = max(len(row) for row in ids)
    input_ids = torch.full((len(ids), width), pad, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for i, row in enumerate(ids):
        input_ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    index = torch.tensor(rows)
    targets = {task: values[index].to(device) for task, values in examples.targets.items()}
    tokens = sum(len(row) for row in ids)
    prefix = examples.prefix.gather(rows, width).to(device) if examples.prefix else None
    return Batch(tuple(rows), input_ids.to(device), mask.to(device), targets, tokens, prefix)
