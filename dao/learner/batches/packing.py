"""Rows packed into shared lines: layout, positions and masks that keep them apart (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Segments", "first_fit", "places", "positions", "separating_mask", "unpack"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segments:
    """Which row of the batch every token of packed lines belongs to.

    Attributes:
        ids: (lines, width); 0 for padding, k for the k-th row.
        places: (rows, longest); where each token of a row is in the flattened lines, -1 behind
            the row's end.
    """

    ids: Tensor
    places: Tensor


def first_fit(lengths: Sequence[int] | Numbers, limit: int) -> list[list[int]]:
    """Rows per line: the longest first, each into the first line with room (Johnson 1973).

    No line has more than `limit` tokens unless a single row has.
    """
    lines: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = int(lengths[row])
        line = next((k for k, free in enumerate(room) if length <= free), len(lines))
        if line == len(lines):
            lines.append([])
            room.append(limit)
        lines[line].append(row)
        room[line] -= length
    return lines


def places(ids: Numbers, lengths: Numbers) -> Numbers:
    """`Segments.places` for `Segments.ids`, given the tokens per row."""
    found = np.full((len(lengths), lengths.max()), -1, dtype=np.int64)
    flat = ids.ravel()
    taken = np.flatnonzero(flat)
    # A stable sort by row keeps the order of the tokens within each.
    found[np.arange(found.shape[1]) < lengths[:, None]] = taken[
        np.argsort(flat[taken], kind="stable")
    ]
    return found


def positions(ids: Tensor) -> Tensor:
    """(lines, width) of segments to position ids that start at 0 with every segment."""
    index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = functional.pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)
    return index - torch.where(begins, index, 0).cummax(1).values


def separating_mask(ids: Tensor, *, causal: bool, additive: torch.dtype | None) -> Tensor:
    """(lines, width) of segments to the mask (lines, 1, width, width) of who may see whom.

    A token sees its own segment, with `causal` no later than itself. Padding sees padding, so that
    no row of the mask is empty, which would make the softmax undefined.

    Args:
        ids: `Segments.ids`.
        causal: whether the model reads from left to right.
        additive: None for True and False; else 0 and the lowest number of this type, which is what
            attention that adds its mask to the scores wants.
    """
    seen = ids[:, None, :, None] == ids[:, None, None, :]
    if causal:
        seen = seen.tril()
    if additive is None:
        return seen
    return torch.zeros_like(seen, dtype=additive).masked_fill(~seen, torch.finfo(additive).min)


def unpack(hidden: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """States of packed lines (lines, width, n) to those of rows (rows, longest, n) and their mask.

    The result has the form of an unpacked forward, so that the same pooling serves both.
    """
    known = segments.places >= 0
    return hidden.flatten(0, 1)[segments.places.clamp(min=0)], known.long()
