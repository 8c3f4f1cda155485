"""The rows of history.jsonl, read back from the device several steps at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from dao import TaskRecord
from dao.records import numbers

__all__ = ["History", "NonFiniteError"]


class NonFiniteError(ArithmeticError):
    """A loss is NaN or infinite.

    Attributes:
        task: whose loss.
        value: what it is.
        step: the first step at which a reading found it.
    """

    def __init__(self, task: str, value: float, step: int) -> None:
        super().__init__(f"the loss of {task} is {value} at step {step}")
        self.task, self.value, self.step = task, value, step


@dataclass(frozen=True)
class _Step:
    row: dict[str, Any]
    loss: Tensor
    tasks: Mapping[str, TaskRecord]


class History:
    """Collects what steps leave on the device and reads it in one go.

    Reading makes the host wait for the device, so it happens every few steps only; speed and memory
    are those of all steps between two readings.

    Args:
        device: of the model.
        write: gets each finished row, in order.
        every: steps between readings.
    """

    def __init__(
        self, device: torch.device, write: Callable[[dict[str, Any]], None], every: int
    ) -> None:
        self._device, self._write, self._every = device, write, every
        self._watched: list[tuple[int, dict[str, Tensor]]] = []
        self._waiting: list[_Step] = []
        self._began = 0.0
        self._step_began: float | None = None

    def begin(self) -> None:
        """A step begins."""
        self._step_began = time.perf_counter()
        if not self._waiting:
            self._began = self._step_began

    def watch(self, step: int, losses: Mapping[str, Tensor | None]) -> None:
        """Have the next reading see whether these losses are finite."""
        known = {task: loss.detach() for task, loss in losses.items() if loss is not None}
        self._watched.append((step, known))

    def add(self, row: dict[str, Any], loss: Tensor, tasks: Mapping[str, TaskRecord]) -> None:
        """Take up a step: what the host knows, the total loss, and each task's record."""
        self._waiting.append(_Step(row, loss.detach(), tasks))
        self._step_began = None
        if len(self._waiting) >= self._every:
            self.flush()

    def check(self) -> None:
        """Read the watched losses.

        Raises:
            NonFiniteError: at the first that is not finite.
        """
        watched, self._watched = self._watched, []
        for number, given in watched:
            for task, loss in given.items():
                if not math.isfinite(value := loss.item()):
                    raise NonFiniteError(task, value, number)

    def flush(self) -> None:
        """Read and write all rows that wait.

        Raises:
            NonFiniteError: at the first watched loss, or total, that is not finite.
        """
        self.check()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        read = [(step.row, step.loss.item(), numbers(step.tasks)) for step in waiting]
        # In the middle of a step, that step counts among the next.
        now = self._step_began or time.perf_counter()
        seconds = now - self._began
        speed = round(sum(step.row["tokens"] for step in waiting) / seconds, 1)
        memory = _memory_mib(self._device)
        for row, total, tasks in read:
            if not math.isfinite(total):  # of finite losses, as a mean of logarithms may be
                raise NonFiniteError("weighted sum", total, row["step"])
            figures = {"loss": total, "tasks": tasks, "tokens_per_s": speed, "memory_mib": memory}
            self._write({**row, **figures})
        self._began = now


def _memory_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(float(psutil.Process().memory_info().rss) / 2**20, 1)
