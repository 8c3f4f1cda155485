"""The grid as a person sees it: waiting, running, done, failed; how long it will take."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dao.learner.basics.numbers import number
from dao.learner.console.terminal import styled
from dao.learner.experiment.grid.factorial import Cell
from dao.learner.experiment.grid.job import Outcome
from dao.learner.kinds.recorded import recorded_tasks, selection
from dao.learner.settings.config import Config

__all__ = ["Board", "duration", "figures"]

TAIL = 16_384  # bytes; a row of the history is far shorter
ARM_CELL, WIDE_CELL = 15, 13  # characters, with what is between two cells
FEW = 3  # tasks whose figures fit into a cell
FIRST_SHARE = 0.01  # of the work, before which an estimate would be a guess


@dataclass(frozen=True)
class _Progress:
    step: int
    total: int | None
    share: float


@dataclass
class Board:
    """The state of every run, read from its folder, because workers may be on other machines.

    Attributes:
        cells: the grid.
        width: characters that the table may take.
        failed: outcomes of the runs that will not finish, by name.
        clock: seconds since the epoch, as file times are.
    """

    cells: Sequence[Cell]
    width: int = 100
    failed: dict[str, Outcome] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.began = self.clock()
        self._done: dict[str, str] = {}
        self._work_before = self._work()

    def view(self) -> Group:
        """The table and the summary."""
        return Group(self.table(), self.summary())

    def table(self) -> Table:
        """One row per arm, one column per seed."""
        arms = dict.fromkeys(cell.arm for cell in self.cells)
        seeds = sorted({cell.seed for cell in self.cells})
        compact = self.width < ARM_CELL + WIDE_CELL * len(seeds)
        title = f"test {_title(self.cells)}; of a run at work, steps"
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
        table.add_column("arm")
        for seed in seeds:
            table.add_column(str(seed) if compact else f"seed {seed}")
        texts = {(cell.arm, cell.seed): self._text(cell, compact=compact) for cell in self.cells}
        for arm in arms:
            table.add_row(arm, *(texts.get((arm, seed), "") for seed in seeds))
        return table

    def summary(self) -> str:
        """Counts, time so far and time to go."""
        states = [self._state(cell) for cell in self.cells]
        parts = [f"{states.count('done')} of {len(states)} runs done"]
        parts += [f"{states.count(s)} {s}" for s in ("running", "failed") if s in states]
        parts.append(f"{duration(self.clock() - self.began)} so far")
        left = self.seconds_left()
        return ", ".join([*parts, *([f"about {duration(left)} to go"] if left else [])])

    def line(self, outcome: Outcome) -> str:
        """A run that has ended, in one line."""
        cell = next(cell for cell in self.cells if cell.name == outcome.name)
        ended = sum(self._state(other) in ("done", "failed") for other in self.cells)
        end = figures(cell.cfg) if outcome.finished else f"failed: {outcome.reason}"
        left = self.seconds_left()
        more = f"; about {duration(left)} to go" if left else ""
        return f"{ended}/{len(self.cells)} {cell.arm} seed={cell.seed}: {end}{more}"

    def seconds_left(self) -> float | None:
        """From the share of the missing work that was done since the start; None: too early."""
        missing = len(self.cells) - len(self.failed) - self._work_before
        done = self._work() - self._work_before
        if missing <= 0 or done < FIRST_SHARE * missing:
            return None
        return float((self.clock() - self.began) * max(0.0, missing - done) / done)

    def _work(self) -> float:
        """The work done, in runs; an unfinished run counts as the share of its steps."""
        total = 0.0
        for cell in self.cells:
            state = self._state(cell)
            progress = None if state in ("done", "failed") else _progress(cell.cfg)
            total += 1 if state == "done" else progress.share if progress else 0
        return total

    def _state(self, cell: Cell) -> str:
        if cell.name in self._done or (cell.cfg.folder / "metrics.json").is_file():
            return "done"
        if cell.name in self.failed:
            return "failed"
        log = cell.cfg.folder.with_name(f"{cell.cfg.folder.name}.log")
        try:
            return "running" if log.stat().st_mtime > self.began - 1 else "waiting"
        except OSError:
            return "waiting"

    def _text(self, cell: Cell, *, compact: bool) -> Text:
        state = self._state(cell)
        if state == "running":
            progress = _progress(cell.cfg)
            return styled(_running(progress, compact=compact), "yellow")
        if state == "done":
            if cell.name not in self._done:
                self._done[cell.name] = figures(cell.cfg, short=True)
            return styled("ok" if compact else self._done[cell.name], "green")
        if state == "failed":
            return styled("X" if compact else "failed", "red")
        return styled("." if compact else "waiting", "dim")


def figures(cfg: Config, *, short: bool = False) -> str:
    """The main figures of a finished run on its test split."""
    try:
        metrics = json.loads((cfg.folder / "metrics.json").read_text(encoding="utf-8"))
        found = _main(cfg, metrics)
        seconds = metrics["training"]["seconds"]
    except (OSError, ValueError, KeyError):
        return "done"
    if short:
        return " ".join(
            "none" if value is None else number(value, decimals=3) for _, value in found
        )
    shown = [f"{name} {'none' if value is None else number(value)}" for name, value in found]
    return ", ".join([*shown, f"trained in {seconds:.0f} s"])


def _title(cells: Sequence[Cell]) -> str:
    """What the cells of the table hold."""
    tasks = max((list(cell.cfg.tasks) for cell in cells), key=len, default=[])
    return "selection score" if len(tasks) > FEW else f"main figure of {', '.join(tasks)}"


def _main(cfg: Config, metrics: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """The main figure of each task on test; of many tasks the selection score alone."""
    tasks, figures = recorded_tasks(metrics, cfg.tasks), metrics["splits"]["test"]
    if len(tasks) > FEW:
        return [("selection score", selection(tasks, figures, cfg.train.select_weights))]
    return [
        (f"{name} {task.main_figure}", figures[name][task.main_figure])
        for name, task in tasks.items()
    ]


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(59), duration(61), duration(7322)
    ('59 s', '1 min', '2 h 2 min')
    """
    minutes = int(seconds // 60)
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _running(progress: _Progress | None, *, compact: bool) -> str:
    if progress is None:
        return "0%" if compact else "starting"
    if compact:
        return f"{progress.share:.0%}"
    return f"{progress.step}/{progress.total}" if progress.total else f"step {progress.step}"


def _progress(cfg: Config) -> _Progress | None:
    """The share of its steps that an unfinished run has done; None before the first is written."""
    row = _last_row(cfg.folder / "history.jsonl")
    if row is None:
        return None
    total = _steps(cfg)
    if total is None:  # batches cut by tokens: the epochs that are behind it
        return _Progress(row["step"], None, (row["epoch"] - 1) / cfg.train.epochs)
    return _Progress(row["step"], total, min(1.0, row["step"] / total))


def _steps(cfg: Config) -> int | None:
    if cfg.train.batch_tokens is not None:
        return None
    try:
        report = json.loads((cfg.folder / "data.json").read_text(encoding="utf-8"))
        rows = int(report["rows"]["train"])
    except (OSError, ValueError, KeyError):
        return None
    return math.ceil(rows / (cfg.train.batch_size * cfg.train.accumulate)) * cfg.train.epochs


def _last_row(path: Path) -> Mapping[str, Any] | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read().split(b"\n")[:-1]  # after the last line break: half a row, or none
        row = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return None
    return row if isinstance(row, dict) else None
