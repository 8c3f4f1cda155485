"""One run: a trunk, a head per task, a weighting, and what validation and test say of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.frozen.arms import ALONE, ARMS, MEAN
from benchmarks.frozen.finance import load_sentences
from benchmarks.frozen.problem import Problem, Target, batches, make_problem
from benchmarks.frozen.tables import TABLES, load_table
from benchmarks.rules import Parts
from dao.learner.weighting.weighting import Losses

__all__ = ["Job", "run"]

BATCH, WIDTH, DEPTH = 128, 64, 2
EVERY = 10
"""Steps between validations."""
WARMUP = 0.1
CLIP, DECAY, MOMENTUM = 1.0, 0.01, 0.9


@dataclass(frozen=True)
class Job:
    """One run and all it depends on.

    Attributes:
        data: a name in `TABLES`, or the path of a table of sentences.
        arm: a name in `ARMS`, `alone:TASK`, or `mean`.
        seed: of split, initialisation and order of the batches.
        rate: learning rate at its highest.
        steps: optimizer steps.
        optimizer: adamw or sgd.
        factor: what the losses of regression tasks are multiplied by.
        curve: whether the validation score at every validation is kept.
    """

    data: str
    arm: str
    seed: int
    rate: float
    steps: int
    optimizer: str = "adamw"
    factor: float = 1.0
    curve: bool = False

    @property
    def key(self) -> str:
        """Tells it from all others of a study."""
        return "/".join(
            [
                self.data.rsplit("/", 1)[-1], self.arm, self.optimizer, f"x{self.factor:g}",
                f"{self.steps} steps", f"rate {self.rate:g}", f"seed {self.seed}",
            ]
        )  # fmt: skip


class Net(nn.Module):
    """A trunk and a linear head per task."""

    def __init__(self, width: int, outputs: Mapping[str, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(DEPTH):
            layers += [nn.Linear(width, WIDTH), nn.ReLU()]
            width = WIDTH
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, n) for task, n in outputs.items()})


def run(job: Job) -> dict[str, Any]:
    """Train, or take the mean, and measure: what a line of the results holds beside the job's key.

    Returns:
        `validation`: the best mean over tasks of R2 (numbers) or accuracy (classes), and `best`,
        the step that had it; `test`: per task, [error, score] at that step: mean squared error of
        the standardised target and R2, or error rate and accuracy; null where nothing was finite.
        `seconds`: of one process, without validations; `warnings`: how many it gave. `curve`, if
        asked for: [step, score].
    """
    torch.set_num_threads(1)
    table = load_table(job.data) if job.data in TABLES else load_sentences(job.data)
    only = [job.arm.removeprefix(ALONE)] if job.arm.startswith(ALONE) else []
    problem = make_problem(table, job.seed, only)
    found = {"key": job.key, "rate": job.rate}
    if job.arm == MEAN:
        return found | {"test": _plain(problem), "validation": None, "best": None, "seconds": 0.0}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        outcome = _Run(job, problem).outcome()
    return found | outcome | {"warnings": len(said)}


class _Run:
    def __init__(self, job: Job, problem: Problem) -> None:
        torch.manual_seed(job.seed)
        self.job, self.problem = job, problem
        outputs = {task: target.classes or 1 for task, target in problem.targets.items()}
        self.net = Net(problem.inputs.shape[1], outputs)
        arm = ARMS["equal-std" if job.arm.startswith(ALONE) else job.arm]
        heads = dict(self.net.heads.items())
        parts = Parts(self.net.trunk, self.net.trunk[-2], heads, torch.device("cpu"))
        self.weighting = arm.make(parts, job.rate)
        self.factors = {
            task: 1.0 if target.classes else job.factor * target.spread ** (2 - 2 * arm.power)
            for task, target in problem.targets.items()
        }

    def outcome(self) -> dict[str, Any]:
        best: dict[str, Any] = {"validation": None, "best": None, "test": None}
        curve, seconds, steps = [], 0.0, self._steps()
        for done in _stops(self.job.steps):
            began = time.process_time()
            next(steps)
            seconds += time.process_time() - began
            figures = self._measure(self.problem.validation)
            score = sum(pair[1] for pair in figures.values()) / len(figures)
            curve.append([done, _short(score)])
            if math.isfinite(score) and (best["best"] is None or score > best["validation"]):
                test = self._measure(self.problem.test)
                best = {"validation": score, "best": done, "test": test}
        if best["test"] is not None:
            best["validation"] = _short(best["validation"])
            best["test"] = {k: [_short(v) for v in pair] for k, pair in best["test"].items()}
        kept = {"curve": curve} if self.job.curve else {}
        return best | {"seconds": round(seconds, 3)} | kept

    def _steps(self) -> Iterator[None]:
        """Train, and pause where there is a validation."""
        job, parameters = self.job, list(self.net.parameters())
        optimizer: torch.optim.Optimizer
        if job.optimizer == "sgd":
            optimizer = torch.optim.SGD(parameters, job.rate, MOMENTUM, fused=True)
        else:
            optimizer = torch.optim.AdamW(parameters, job.rate, weight_decay=DECAY, fused=True)
        warm = max(1, round(WARMUP * job.steps))
        stream, stops = batches(self.problem, BATCH, job.seed), set(_stops(job.steps))
        for step, (rows, places) in enumerate(islice(stream, job.steps)):
            level = min((step + 1) / warm, (job.steps - step) / (job.steps - warm))
            optimizer.param_groups[0]["lr"] = job.rate * level
            optimizer.zero_grad(set_to_none=True)
            self.weighting.backward(self._losses(rows, places))
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            self.weighting.after_step(partial(self._losses, rows, places))
            if step + 1 in stops:
                yield

    def _losses(self, rows: Tensor, places: Mapping[str, slice]) -> Losses:
        states = self.weighting.tap(self.net.trunk(self.problem.inputs[rows]))
        found: dict[str, Tensor | None] = {}
        for task, target in self.problem.targets.items():
            output = self.net.heads[task](states[places[task]])
            values = target.values[rows[places[task]]]
            found[task] = self.factors[task] * _loss(output, values, target)
        return found

    @torch.no_grad()
    def _measure(self, part: Tensor) -> dict[str, tuple[float, float]]:
        states = self.net.trunk(self.problem.inputs[part])
        found = {}
        for task, target in self.problem.targets.items():
            known = target.known[part]
            output = self.net.heads[task](states[known])
            values = target.values[part][known]
            if target.classes:
                accuracy = float((output.argmax(1) == values).double().mean())
                found[task] = (1 - accuracy, accuracy)
            else:
                error = float(nn.functional.mse_loss(output[:, 0], values))
                found[task] = (error, 1 - error / float(values.var(correction=0)))
        return found


def _stops(steps: int) -> list[int]:
    return [*range(EVERY, steps, EVERY), steps]


def _loss(output: Tensor, values: Tensor, target: Target) -> Tensor:
    if target.classes:
        return nn.functional.cross_entropy(output, values)
    return nn.functional.mse_loss(output[:, 0], values)


def _plain(problem: Problem) -> dict[str, list[float]]:
    """The mean of training rows, which is 0, or their commonest class."""
    found = {}
    for task, target in problem.targets.items():
        values = target.values[problem.test][target.known[problem.test]]
        if target.classes:
            seen = target.values[problem.train][target.known[problem.train]]
            accuracy = float((values == seen.mode().values).double().mean())
            found[task] = [_short(1 - accuracy), _short(accuracy)]
        else:
            error = float(values.square().mean())
            found[task] = [_short(error), _short(1 - error / float(values.var(correction=0)))]
    return found


def _short(value: float) -> float:
    return float(f"{value:.5g}")
