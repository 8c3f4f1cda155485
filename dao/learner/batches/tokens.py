"""Token ids of many texts in two flat arrays; a row is a view, never a Python list."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from transformers import BatchEncoding, PreTrainedTokenizerBase

from dao.learner.batches.token_types import encode, refuse_inner

__all__ = ["Tokens", "cut_line", "end_ids", "pad_id", "tokenize"]

# The tokenizer answers with Python objects; only so many texts have them at a time.
CHUNK = 10_000
EVERY = 5.0  # seconds between two signs of life


class Tokens(Sequence[Sequence[int]]):
    """Token ids, row by row, over one Arrow array.

    Args:
        array: of type large_list<int32>, without nulls, and no slice of another.
        cut: how many of the texts were longer than the limit.

    Attributes:
        values: the ids of all rows, one row after another, read-only.
    """

    def __init__(self, array: pa.LargeListArray, cut: int = 0) -> None:
        self.array = array
        self.cut = cut
        self.values: npt.NDArray[np.int32] = _numbers(array.values, np.int32)
        self._offsets: npt.NDArray[np.int64] = _numbers(array.offsets, np.int64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int | slice) -> Any:  # noqa: ANN401  (an array is no Sequence)
        """A row as a read-only int32 array (length,); several as a list of them."""
        found = range(len(self))[index]
        if isinstance(found, range):
            return [self[row] for row in found]
        return self.values[self._offsets[found] : self._offsets[found + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per row, (rows,)."""
        return np.diff(self._offsets)


def tokenize(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    note: Callable[[str], None] | None = None,
    *,
    pairs: bool = False,
) -> Tokens:
    """Token ids per text, cut at `limit`; a text that gives no token gets one of the pad id.

    `note` is told every few seconds how far it is. With `pairs`, every text is a pair of
    `dao.learner.basics.pairs`, and both are one row of tokens.

    Raises:
        UserError: the first text of a pair holds what separates it from the second.
    """
    last = time.monotonic()
    empty = [pad_id(tokenizer)]
    values, lengths, cut = [np.empty(0, np.int32)], [np.empty(0, np.int64)], 0
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        found = encode(chunk, tokenizer, pairs=pairs, truncation=True, max_length=limit)
        if pairs:
            refuse_inner(chunk, found, tokenizer)
        rows = [row or empty for row in found["input_ids"]]
        cut += _cut(chunk, found, tokenizer, limit, pairs=pairs)
        lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
        if note and (now := time.monotonic()) - last >= EVERY:
            note(f"token ids: {start + len(chunk):,} of {len(texts):,} texts")
            last = now
        values.append(np.fromiter((i for row in rows for i in row), np.int32, lengths[-1].sum()))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    flat = _arrow(np.concatenate(values), pa.int32())
    return Tokens(pa.LargeListArray.from_arrays(_arrow(offsets, pa.int64()), flat), cut)


def _numbers(array: pa.Array, kind: type[np.integer[Any]]) -> npt.NDArray[Any]:
    """What an array without nulls holds, without a copy; `to_numpy` would import pandas as well."""
    _, data = array.buffers()
    if data is None:  # of an empty array
        return np.empty(0, kind)
    found = np.frombuffer(data, kind, len(array), array.offset * np.dtype(kind).itemsize)
    found.flags.writeable = False
    return found


def _arrow(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """The numbers without a copy; `pa.array` would import pandas, which takes long."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _cut(
    texts: Sequence[str],
    found: BatchEncoding,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    *,
    pairs: bool,
) -> int:
    """How many of the texts, `found` as tokens, are longer than the limit."""
    full = [i for i, row in enumerate(found["input_ids"]) if len(row) >= limit]
    if encodings := getattr(found, "encodings", None):
        return sum(bool(encodings[i].overflowing) for i in full)
    # A tokenizer in Python code does not say what it has cut.
    whole = [encode([texts[i]], tokenizer, pairs=pairs, verbose=False) for i in full]
    return sum(len(row["input_ids"][0]) > limit for row in whole)


def cut_line(cut: Mapping[str, int], rows: Mapping[str, int], limit: int, most: int | None) -> str:
    """How many texts were cut, and what to do, in a line; nothing where none was.

    Args:
        cut: split -> the number of its texts that were cut; empty names are left out.
        rows: split -> the number of its texts.
        limit: tokens at which they were cut.
        most: tokens that the encoder takes; None where nothing says.

    Example:
        >>> cut_line({"": 1}, {"": 2}, 64, 64)
        '1 of 2 texts was cut at 64 tokens, the most that this encoder takes'
    """
    if not any(cut.values()):
        return ""
    named = ", ".join(f"{split} {count}" for split, count in cut.items() if split)
    where = f" ({named})" if named else ""
    number = sum(cut.values())
    were = "was" if number == 1 else "were"
    told = f"{number} of {sum(rows.values())} texts {were} cut at {limit} tokens{where}"
    if most is not None and limit >= most:
        return f"{told}, the most that this encoder takes"
    takes = f"takes at most {most}" if most is not None else "names no maximum"
    return (
        f"{told}; to use more of each, train with encoder.max_length above {limit} (this encoder "
        f"{takes})"
    )


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any valid id serves, because masks come from lengths and never from ids."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the special tokens that stand for no part of a text, such as those of its two ends.

    That is all of them but the one for unknown characters, unless it has a second meaning: some
    tokenizers have one token for unknown characters and for the end of a text.
    """
    ids = {int(token) for token in tokenizer.all_special_ids}
    if list(tokenizer.special_tokens_map.values()).count(tokenizer.unk_token) == 1:
        ids.discard(tokenizer.unk_token_id)
    return frozenset(ids)
