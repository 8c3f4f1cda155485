"""The rows of history.jsonl, whose figures are read from the device for several steps at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from dao import TaskRecord
from dao.records import numbers

__all__ = ["History", "NonFiniteError"]


class NonFiniteError(ArithmeticError):
    """A loss, or the gradient, is NaN or infinite.

    Attributes:
        what: the loss of a task, or the gradient, in words.
        value: NaN or an infinity.
        step: the first step with such a value.
        rows: the numbers of that step's rows.
    """

    def __init__(self, what: str, value: float, step: int, rows: Sequence[int] = ()) -> None:
        super().__init__(f"{what} is {value} at step {step}")
        self.what, self.value, self.step, self.rows = what, value, step, rows


@dataclass(frozen=True)
class _Step:
    row: dict[str, Any]
    loss: Tensor
    tasks: Mapping[str, TaskRecord]
    rows: Sequence[int]
    router: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Watched:
    step: int
    values: Mapping[str, Tensor]
    rows: Sequence[int]


class History:
    """Collects figures that steps leave on the device, and reads those of several steps at once.

    Reading makes the host wait for the device, so it happens every few steps only; speed and memory
    are those of all steps between two readings.

    Args:
        device: of the model.
        write: is given each finished row, in order.
        every: steps between readings.
    """

    def __init__(
        self, device: torch.device, write: Callable[[dict[str, Any]], None], every: int
    ) -> None:
        self._device, self._write, self._every = device, write, every
        self._watched: list[_Watched] = []
        self._waiting: list[_Step] = []
        self._began = 0.0
        self._step_began: float | None = None

    def begin(self) -> None:
        """Note that a step begins."""
        self._step_began = time.perf_counter()
        if not self._waiting:
            self._began = self._step_began

    def watch(
        self, step: int, values: Mapping[str, Tensor | None], rows: Sequence[int] = ()
    ) -> None:
        """Let the next reading check that these values of a step on `rows` are finite."""
        known = {what: value.detach() for what, value in values.items() if value is not None}
        self._watched.append(_Watched(step, known, rows))

    def drop(self, step: int) -> None:
        """Forget the watched values of a step that is left out."""
        self._watched = [watched for watched in self._watched if watched.step != step]
        self._step_began = None

    def add(
        self,
        row: dict[str, Any],
        loss: Tensor,
        tasks: Mapping[str, TaskRecord],
        rows: Sequence[int] = (),
        router: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take up a step.

        Args:
            row: the part of its row that is known without reading from the device.
            loss: the total loss.
            tasks: a record per task.
            rows: numbers of its training rows.
            router: figures of a router that trains.
        """
        self._waiting.append(_Step(row, loss.detach(), tasks, rows, router or {}))
        self._step_began = None
        if len(self._waiting) >= self._every:
            self.flush()

    def check(self) -> None:
        """Read the watched values.

        Raises:
            NonFiniteError: for the first value that is not finite.
        """
        found, self._watched = self._watched, []
        for watched in found:
            for what, given in watched.values.items():
                if not math.isfinite(value := given.item()):
                    raise NonFiniteError(what, value, watched.step, watched.rows)

    def flush(self) -> None:
        """Read and write all rows that wait.

        Raises:
            NonFiniteError: for the first watched value, or total loss, that is not finite.
        """
        self.check()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        read = [
            (
                step,
                step.loss.item(),
                numbers(step.tasks),
                {k: v.item() for k, v in step.router.items()},
            )
            for step in waiting
        ]
        # A reading in the middle of a step counts this step among the next ones.
        now = self._step_began or time.perf_counter()
        seconds = now - self._began
        speed = round(sum(step.row["tokens"] for step in waiting) / seconds, 1)
        memory = _memory_mib(self._device)
        for step, total, tasks, router in read:
            if not math.isfinite(total):  # as a mean of logarithms of finite losses may be
                raise NonFiniteError("The weighted sum", total, step.row["step"], step.rows)
            figures = {"loss": total, "tasks": tasks, **({"router": router} if router else {})}
            figures |= {"tokens_per_s": speed, "memory_mib": memory}
            self._write({**step.row, **figures})
        self._began = now


def _memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(float(psutil.Process().memory_info().rss) / 2**20, 1)
