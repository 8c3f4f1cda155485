"""Engines side by side: latency, throughput, size, and what each costs in quality."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad as extend

from dao.errors import UserError
from dao.learner.basics.turns import in_turns, timed
from dao.learner.batches.batching import Examples, collate, sorted_batches
from dao.learner.inference.backends.onnx import OnnxEngine
from dao.learner.inference.engines import ENGINES, EngineName, check_engine, make_engine, megabytes
from dao.learner.inference.predictor import Predictor
from dao.learner.kinds import Task
from dao.learner.model.model import MultiTaskModel
from dao.learner.scoring.scoring import Engine, measure

__all__ = ["Timed", "compare_engines", "inputs", "outputs", "single_rows", "take_turns", "times"]

BATCH = 64
ROUNDS = 5
SINGLE_TEXTS = 200
# Time limit for the single texts, and again for the rounds: a slow model gets fewer of them.
SECONDS = 120.0

Inputs = list[tuple[tuple[int, ...], Tensor, Tensor]]  # rows, ids, mask


@dataclass
class Timed:
    """An engine, what it is fed, and its times in seconds."""

    label: str
    engine: Engine
    batches: Inputs
    singles: Inputs
    passes: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)


def compare_engines(
    predictor: Predictor[MultiTaskModel],
    tasks: Mapping[str, Task],
    frame: pd.DataFrame,
    tell: Callable[[str], None],
    *,
    engines: Sequence[EngineName] = ENGINES[1:],
    fillings: bool = True,
    folder: Path | None = None,
    saved: int | None = None,
) -> dict[str, Any]:
    """Time engines on the same texts, taking turns, so that all share the machine's noise.

    Times are of the model alone, from token ids to outputs on the CPU: texts are tokenised and
    padded beforehand. Throughput is the median over rounds, each a pass over all texts in batches
    of 64; latency is over single texts, evenly spaced.

    Args:
        predictor: a finished run, as it was trained.
        tasks: by name.
        frame: rows of a table, with a column per task.
        tell: takes a line as each stage begins.
        engines: to time beside `eager`.
        fillings: whether to time two more ways to fill the batches of `eager` as well.
        folder: where ONNX files are left; None for a temporary one.
        saved: bytes of the run's own weights on the disk.

    Returns:
        JSON-able: what was run and, under `rows`, an entry per engine with its figures, or with the
        `reason` for which it cannot run. Differences are from `eager` on sorted batches.
    """
    examples = predictor.examples(frame, tasks)
    with nullcontext(folder) if folder else TemporaryDirectory() as place:
        rows, reasons, merged = _rows(predictor, examples, engines, Path(place), tell)
        if fillings:
            rows = [*_fillings(predictor, examples), *rows]
    tell("one pass over all texts, for the outputs and to warm up")
    results = [outputs(row) for row in rows]
    take_turns(rows, tell)
    trained = results[[row.label for row in rows].index("eager, sorted")]
    tokens = sum(examples.lengths)
    found = [
        {
            "engine": row.label,
            **times(row, len(frame), tokens),
            "ratio": float(np.median(np.divide(rows[0].passes, row.passes))),
            "megabytes": megabytes(row.engine),
            "disk_megabytes": _on_disk(row.engine, predictor.model, saved),
            "largest_difference": _difference(own, trained),
            "figures": _headline(tasks, measure(tasks, own, examples.targets)),
        }
        for row, own in zip(rows, results, strict=True)
    ]
    return {
        "device": str(predictor.model.device),
        "threads": torch.get_num_threads(),
        "texts": len(frame),
        "tokens": tokens,
        "batch_size": BATCH,
        "rounds": len(rows[0].passes),
        "single_texts": len(rows[0].calls),
        "largest_output": max(float(x.abs().max()) for x in trained.values()),
        "trained_in": predictor.model.precision,
        "merged": merged,
        "rows": [*found, *({"engine": name, "reason": why} for name, why in reasons.items())],
    }


def _rows(
    predictor: Predictor[MultiTaskModel],
    examples: Examples,
    engines: Sequence[EngineName],
    folder: Path,
    tell: Callable[[str], None],
) -> tuple[list[Timed], dict[str, str], str]:
    model, merged = predictor.model.eval(), ""
    single = inputs(predictor, examples, single_rows(len(examples)))
    ordered = inputs(predictor, examples, list(sorted_batches(examples.lengths, BATCH)))
    rows = [Timed("eager, sorted", model, ordered, single)]
    reasons: dict[str, str] = {}
    for name in engines:
        try:
            check_engine(name, model)
        except UserError as error:
            reasons[name] = str(error)
            continue
        tell(f"making {name}")
        copied = replace(predictor, model=copy.deepcopy(model))
        engine, merged = make_engine(name, copied, folder)
        rows.append(Timed(name, engine.model, ordered, single))
    return rows, reasons, merged


def _fillings(predictor: Predictor[MultiTaskModel], examples: Examples) -> list[Timed]:
    """`eager` on batches that are padded to the limit, and on unsorted ones."""
    model, limit, n = predictor.model.eval(), predictor.limit, len(examples)
    one = single_rows(n)
    in_order = [tuple(range(i, min(i + BATCH, n))) for i in range(0, n, BATCH)]
    whole, alone = (inputs(predictor, examples, rows, limit) for rows in (in_order, one))
    unsorted, single = (inputs(predictor, examples, rows) for rows in (in_order, one))
    return [
        Timed(f"eager, padded to {limit}", model, whole, alone),
        Timed("eager, in row order", model, unsorted, single),
    ]


def single_rows(count: int) -> list[tuple[int, ...]]:
    """At most 200 rows, evenly spaced, each a batch of its own."""
    return [(int(i),) for i in np.unique(np.linspace(0, count - 1, SINGLE_TEXTS).astype(int))]


def inputs(
    predictor: Predictor[Any],
    examples: Examples,
    batches: Sequence[tuple[int, ...]],
    width: int = 0,
) -> Inputs:
    """Token ids and mask of each batch on the model's device, padded to at least `width`."""
    pad = predictor.pad
    made = [collate(examples, rows, pad, predictor.model.device) for rows in batches]
    return [
        (b.rows, _widen(b.input_ids, width, pad), _widen(b.attention_mask, width, 0)) for b in made
    ]


def times(row: Timed, texts: int, tokens: int) -> dict[str, float]:
    """Latency of single texts in ms, and texts and tokens per second in batches."""
    typical = float(np.median(row.passes))
    return {
        "mean_ms": 1e3 * float(np.mean(row.calls)),
        **{f"p{q}_ms": 1e3 * float(np.percentile(row.calls, q)) for q in (50, 95, 99)},
        "sentences_per_s": texts / typical,
        "tokens_per_s": tokens / typical,
    }


def _on_disk(engine: Engine, trained: Engine, saved: int | None) -> float | None:
    """Megabytes of the files that an engine is loaded from; None where it has none."""
    if isinstance(engine, OnnxEngine):
        return engine.size / 1e6
    return saved / 1e6 if engine is trained and saved is not None else None


def _widen(cells: Tensor, width: int, value: int) -> Tensor:
    return extend(cells, (0, max(width - cells.shape[1], 0)), value=value)


@torch.no_grad()
def _run(engine: Engine, inputs: Inputs) -> list[dict[str, Tensor]]:
    found = [engine(ids, mask) for _, ids, mask in inputs]
    return [{task: x.float().cpu() for task, x in part.items()} for part in found]


def outputs(row: Timed) -> dict[str, Tensor]:
    """Task -> outputs (n, outputs of the task) of every row, in order."""
    parts = _run(row.engine, row.batches)
    back = torch.tensor([i for rows, _, _ in row.batches for i in rows]).argsort()
    return {task: torch.cat([part[task] for part in parts])[back] for task in parts[0]}


def take_turns(rows: Sequence[Timed], tell: Callable[[str], None]) -> None:
    """Fill in the times: all engines take each single text, then each round, in turn."""
    for row in rows:
        _run(row.engine, row.singles[:3])
    tell("single texts")
    calls = {i: timed(partial(_call, row)) for i, row in enumerate(rows)}
    for _, i, seconds in in_turns(calls, range(len(rows[0].singles)), limit=SECONDS):
        rows[i].calls.append(seconds)
    passes = {i: timed(partial(_pass, row)) for i, row in enumerate(rows)}
    for _, i, seconds in in_turns(passes, _rounds(tell), limit=SECONDS):
        rows[i].passes.append(seconds)


def _rounds(tell: Callable[[str], None]) -> Iterator[int]:
    for done in range(ROUNDS):
        tell(f"round {done + 1} of {ROUNDS}")
        yield done


def _call(row: Timed, number: int) -> None:
    _run(row.engine, row.singles[number : number + 1])


def _pass(row: Timed, _: int) -> None:
    _run(row.engine, row.batches)


def _difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[task] - other[task]).abs().max()) for task in one)


def _headline(
    tasks: Mapping[str, Task], figures: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, float | None]]:
    return {t: {m: row[m] for m, _ in tasks[t].headline} for t, row in figures.items()}
