"""The frozen layers below the first adapted one run once per row; the disk keeps their states."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dao.errors import UserError
from dao.learner.batches.batching import Batch, Examples, collate, sorted_batches
from dao.learner.batches.prefix_store import PrefixStates, StateFile
from dao.learner.encoder.layers import Boundary, first_adapted, handed, layer_list, stopped
from dao.learner.model.model import MultiTaskModel
from dao.learner.model.prefix_key import encoder_digest, rows_key

__all__ = ["cache_prefix", "find_boundary", "frozen_layers"]

# As in `scoring.predict`: validation rows then get, to the bit, what they get uncached.
BATCH_SIZE = 64
# How far outputs with handed states may be from those without, relative to the largest.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
Note = Callable[[str], None]


def cache_prefix(
    model: MultiTaskModel, splits: Sequence[Examples], pad: int, folder: Path, note: Note
) -> tuple[list[Examples], dict[str, Any]]:
    """Give every row the states of the frozen layers, read from the disk or computed and saved.

    Sets `model.boundary`, so that the model starts from these states.

    Args:
        model: with adapters in its last layers only.
        splits: the rows; each split has a file of its own.
        pad: token id to pad with.
        folder: of the files, whose names say which weights, rows and precision they are of.
        note: told what happens, a line at a time.

    Returns:
        The splits with their states, and `rows`, `mib`, `seconds` and `warm` (everything was on
        disk before).

    Raises:
        UserError: as `find_boundary`; or the disk has too little room.
    """
    began = time.perf_counter()
    sample = max(splits, key=len)
    by_length = sorted(range(len(sample)), key=sample.lengths.__getitem__)
    extremes = collate(sample, (by_length[0], by_length[-1]), pad, model.device)
    model.boundary = boundary = find_boundary(model, extremes)
    encoder = encoder_digest(model, boundary)
    cached, size, warm = [], 0.0, True
    for examples in splits:
        batches = list(sorted_batches(examples.lengths, BATCH_SIZE))
        path = folder / f"{rows_key(encoder, examples.ids, batches)}.states"
        file = StateFile(path, sum(examples.lengths), boundary.width, boundary.dtype)
        states = _states(model, boundary, examples, batches, pad)
        warm &= _fill(file, states, len(examples), note)
        size += file.size / 2**20
        cached.append(replace(examples, prefix=_by_row(examples, batches, file)))
    rows, seconds = sum(map(len, splits)), time.perf_counter() - began
    origin = "read from cache" if warm else "computed"
    note(f"frozen layers: {rows:,} rows, {size:,.1f} MiB, {origin} in {seconds:.1f} s; {folder}")
    figures = {"rows": rows, "mib": round(size, 1), "seconds": round(seconds, 1)}
    return cached, {**figures, "warm": warm}


def _fill(file: StateFile, states: Iterator[Tensor], rows: int, note: Note) -> bool:
    """Write the file unless it is there and whole; returns whether it was."""
    with file.locked(lambda: note("frozen layers: waiting for another run that computes them")):
        if file.whole():
            return True
        damaged = " in place of a damaged file" if file.path.exists() else ""
        note(f"frozen layers: computing {rows:,} rows, {file.size / 2**20:,.1f} MiB{damaged}")
        file.write(states)
    return False


def frozen_layers(base: nn.Module) -> tuple[str, int]:
    """Path of the list of layers, and how many lie below the first adapted one.

    Raises:
        UserError: there is none below.
    """
    path, layers = layer_list(base)
    count = first_adapted(base, path)
    if not count:
        raise UserError(
            f"`encoder.prefix_cache` should have frozen layers below the first adapted one. Found "
            f"something to train in the first of {len(layers)} layers or outside of them. "
            f"Lower encoder.lora.last_layers."
        )
    return path, count


def find_boundary(model: MultiTaskModel, sample: Batch) -> Boundary:
    """The place where the frozen part of the encoder ends, tried out on `sample`.

    Raises:
        UserError: no layer is frozen below the adapters, or the layers above need more than the
            states of those below.
    """
    base = model.base
    path, count = frozen_layers(base)
    with _evaluating(model):
        output = _output(model, path, count, sample)
        states, *rest = output if isinstance(output, tuple) else (output,)
        in_shape = states.shape[:-1] == sample.input_ids.shape
        if in_shape and all(extra is None for extra in rest):
            extras = len(rest) if isinstance(output, tuple) else None
            boundary = Boundary(path, count, states.shape[-1], states.dtype, extras)
            if _agrees(model, boundary, sample, states):
                return boundary
    raise UserError(
        f"`encoder.prefix_cache` should have an encoder whose layers hand on their states (batch, "
        f"length, width) and nothing else. {type(base).__name__} is not one. Leave the cache out."
    )


def _agrees(model: MultiTaskModel, boundary: Boundary, sample: Batch, states: Tensor) -> bool:
    inputs = sample.input_ids, sample.attention_mask
    expected = model.represent(*inputs)
    with handed(model.base, boundary, states):
        error = (model.represent(*inputs) - expected).abs().max() / expected.abs().max()
    return bool(error <= TOLERANCE[model.compute])


def _states(
    model: MultiTaskModel,
    boundary: Boundary,
    examples: Examples,
    batches: Sequence[Sequence[int]],
    pad: int,
) -> Iterator[Tensor]:
    """Of each batch, the states of its real tokens, row after row: (tokens, width)."""
    with _evaluating(model):
        for rows in batches:
            batch = collate(examples, rows, pad, model.device)
            output = _output(model, boundary.path, boundary.count, batch)
            states = output if boundary.extras is None else output[0]
            yield states[batch.attention_mask.bool()].cpu()


def _output(model: MultiTaskModel, path: str, count: int, batch: Batch) -> Any:  # noqa: ANN401
    """What the last frozen layer gives: states (batch, length, width), or a tuple from them on."""
    with stopped(model.base, path, count) as caught:
        model.represent(batch.input_ids, batch.attention_mask)
    return caught[0]


def _by_row(examples: Examples, batches: Sequence[Sequence[int]], file: StateFile) -> PrefixStates:
    order, lengths = list(itertools.chain.from_iterable(batches)), examples.lengths
    ends = dict(zip(order, itertools.accumulate(lengths[i] for i in order), strict=True))
    return PrefixStates(file.read(), [ends[i] - n for i, n in enumerate(lengths)], lengths)


@contextmanager
def _evaluating(model: MultiTaskModel) -> Iterator[None]:
    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)
