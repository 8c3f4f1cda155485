"""Time, quartiles, matmul peak and memory."""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import torch
from torch.profiler import ProfilerActivity, profile

from dao.learner.basics.turns import in_turns

__all__ = [
    "Arm",
    "Burst",
    "Stopwatch",
    "interleave",
    "matmul_peak",
    "peak_bytes",
    "peak_mib",
    "quartiles",
]


class Arm(Protocol):
    """One way to train on the work; all begin from the same weights."""

    about: str
    """What it is, in a few words."""

    def order(self) -> list[tuple[int, ...]]:
        """Row numbers of each batch of the epoch; every row once."""

    def run(self, batches: Sequence[tuple[int, ...]]) -> float:
        """Train on the batches in order; seconds of all but the first, which warms up."""

    def loss(self, rows: tuple[int, ...]) -> float:
        """The sum of the losses of these rows with the weights as they are; changes nothing."""


class Stopwatch:
    """Wall-clock time that waits for the device's queued work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def seconds(self) -> float:
        """Since the start or the last lap."""
        return self._now() - self._began

    def lap(self) -> float:
        """The same, and start anew."""
        now = self._now()
        began, self._began = self._began, now
        return now - began


@dataclass(frozen=True)
class Burst:
    """Consecutive steps of one arm: which rows, and how long they took."""

    rows: tuple[tuple[int, ...], ...]
    seconds: float


def interleave(arms: Mapping[str, Arm], rounds: int, seed: int) -> dict[str, list[Burst]]:
    """Every arm trains its epoch in `rounds` bursts; in each round all arms, in random order.

    Burst r has every `rounds`-th batch of the arm's order from the r-th on, so that each round is
    a fair sample of it, whether or not the order is sorted by length. Its last batch goes first
    once more, untimed.
    """
    orders = {name: arm.order() for name, arm in arms.items()}
    bursts: dict[str, list[Burst]] = {name: [] for name in arms}
    generator = random.Random(seed)

    def runner(name: str) -> Callable[[int], float]:
        def run(number: int) -> float:
            batches = orders[name][number::rounds]
            return arms[name].run([batches[-1], *batches])

        return run

    def order(_: int, names: Sequence[str]) -> list[str]:
        return generator.sample(names, len(names))

    turns = in_turns({name: runner(name) for name in arms}, range(rounds), order)
    for number, name, seconds in turns:
        bursts[name].append(Burst(tuple(orders[name][number::rounds]), seconds))
    return bursts


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile.

    Example:
        >>> quartiles([4.0, 1.0, 2.0, 3.0, 5.0])
        (2.0, 3.0, 4.0)
        >>> quartiles([7.0])
        (7.0, 7.0, 7.0)
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return low, middle, high


def matmul_peak(device: torch.device, dtype: torch.dtype, tries: int = 5) -> float:
    """Floating-point operations per second of the best of several large square products."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    times = []
    for _ in range(tries):
        watch = Stopwatch(device)
        a @ b
        times.append(watch.seconds())
    return 2 * size**3 / min(times)


def peak_mib(device: torch.device) -> float:
    """Most memory so far: allocated on a GPU, else resident in this process (Linux)."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    # getrusage would give a child process its parent's figure.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that were alive at once while `work` ran, of those it made itself.

    Every allocation counts, also those inside of operations. Resident memory would not do: Python
    and its libraries hide what a small model adds, and freed memory is not always given back.

    Example:
        >>> def work() -> None:
        ...     first = torch.zeros(100)
        ...     del first
        ...     torch.zeros(50), torch.zeros(60)
        >>> peak_bytes(work, torch.device("cpu"))
        440
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # no notices on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    alive: dict[int, int] = {}
    total = peak = 0
    for change in sorted(changes, key=lambda event: event["args"]["Ev Idx"]):
        address, size = change["args"]["Addr"], change["args"]["Bytes"]
        # What was there before is not of the work, even if it goes meanwhile.
        total += size if size > 0 else -alive.pop(address, 0)
        if size > 0:
            alive[address] = size
        peak = max(peak, total)
    return peak
