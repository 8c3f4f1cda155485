"""How long the model of each arm takes for one text, measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from dao.learner.basics.turns import forth_and_back, in_turns, timed
from dao.learner.batches.batching import collate
from dao.learner.experiment.findings.runs import Run
from dao.learner.inference.predictor import Predictor, pick_device, reload
from dao.learner.model.saving import HEADS
from dao.learner.storage.record import RunFolder

__all__ = ["latencies", "times_of"]

TEXTS = 50

Input = tuple[Tensor, Tensor]
"""Token ids and mask of one text, each (1, length)."""
Runner = Callable[[Input], object]


def latencies(runs: Mapping[str, Run]) -> dict[str, float]:
    """Milliseconds per text and arm, from token ids to outputs, of the models as they were trained.

    Two models are in memory at a time: the first arm's and another's, which take turns over 50
    test texts, so that other load on the machine meets both alike. The first arm's figure is its
    median; another's is that times the median ratio.

    Args:
        runs: one per arm, of one seed.

    Returns:
        An empty mapping where the weights of a run are missing.
    """
    if not runs or not all((run.path / HEADS).is_file() for run in runs.values()):
        return {}
    first, *others = runs
    base = _model(runs[first])
    inputs = _inputs(runs[first], base)
    seconds: list[float] = []
    ratios: dict[str, float] = {}
    for arm in others:
        own, found = times_of([_runner(base), _runner(_model(runs[arm]))], inputs)
        seconds += own
        ratios[arm] = median(b / a for a, b in zip(own, found, strict=True))
    seconds = seconds or times_of([_runner(base)], inputs)[0]
    typical = 1000 * median(seconds)
    return {first: typical, **{arm: typical * ratio for arm, ratio in ratios.items()}}


def times_of(runners: Sequence[Runner], inputs: Sequence[Input]) -> list[list[float]]:
    """Seconds of every runner for every input, in turn and forth and back; a pass warms up."""
    by_place = {place: timed(run) for place, run in enumerate(runners)}
    for _ in in_turns(by_place, inputs, forth_and_back):
        pass
    seconds: list[list[float]] = [[] for _ in runners]
    for _, place, taken in in_turns(by_place, inputs, forth_and_back):
        seconds[place].append(taken)
    return seconds


def _model(run: Run) -> Predictor:
    with safe_open(run.path / HEADS, "pt") as heads:
        widths: dict[str, int] = {
            task: heads.get_slice(f"{task}.bias").get_shape()[0] for task in run.config.tasks
        }
    predictor = reload(RunFolder(run.path), widths, pick_device(run.config.device))
    predictor.model.eval()
    return predictor


def _inputs(run: Run, predictor: Predictor) -> list[Input]:
    rows = run.predictions
    chosen = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, TEXTS).astype(int))]
    examples = predictor.examples(chosen, {})
    device = predictor.model.device
    batches = (collate(examples, (i,), predictor.pad, device) for i in range(len(chosen)))
    return [(batch.input_ids, batch.attention_mask) for batch in batches]


def _runner(predictor: Predictor) -> Runner:
    def run(given: Input) -> object:
        with torch.no_grad():
            # The copy to the CPU waits until the device has computed the outputs.
            return [output.cpu() for output in predictor.model(*given).values()]

    return run
