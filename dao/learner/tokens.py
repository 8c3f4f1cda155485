"""Token ids of many texts in two flat arrays; a row is a view, never a Python list."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

__all__ = ["Tokens", "pad_id", "tokenize"]

# The tokenizer answers with Python objects; only so many texts have them at a time.
CHUNK = 10_000
EVERY = 5.0  # seconds between two signs of life


class Tokens(Sequence[Sequence[int]]):
    """Token ids, row by row, over one Arrow array.

    Args:
        array: of type large_list<int32>, without nulls, and no slice of another.
    """

    def __init__(self, array: pa.LargeListArray) -> None:
        self.array = array
        self._values: npt.NDArray[np.int32] = array.values.to_numpy()
        self._offsets: npt.NDArray[np.int64] = array.offsets.to_numpy()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int | slice) -> Any:  # noqa: ANN401  (an array is no Sequence)
        """A row as a read-only int32 array (length,); several as a list of them."""
        found = range(len(self))[index]
        if isinstance(found, range):
            return [self[row] for row in found]
        return self._values[self._offsets[found] : self._offsets[found + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per row, (rows,)."""
        return np.diff(self._offsets)


def tokenize(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    note: Callable[[str], None] | None = None,
) -> Tokens:
    """Token ids per text, cut at `limit`; a text that gives no token gets one of the pad id.

    `note` is told every few seconds how far it is.
    """
    last = time.monotonic()
    empty = [pad_id(tokenizer)]
    values, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        found = tokenizer(chunk, truncation=True, max_length=limit)["input_ids"]
        rows = [row or empty for row in found]
        lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
        if note and (now := time.monotonic()) - last >= EVERY:
            note(f"token ids: {start + len(chunk):,} of {len(texts):,} texts")
            last = now
        values.append(np.fromiter((i for row in rows for i in row), np.int32, lengths[-1].sum()))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    flat = pa.array(np.concatenate(values))
    return Tokens(pa.LargeListArray.from_arrays(pa.array(offsets), flat))


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any valid id serves, because masks come from lengths and never from ids."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
