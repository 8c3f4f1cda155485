"""A command under a clock whose seconds belong to one phase at a time.

`python clock.py FILE STARTED MODULE [ARGUMENTS]...` runs a module, or a file that ends in .py, as
Python itself would. FILE gets the seconds per phase as JSON, the first of them since STARTED, the
moment (of `time.time`) at which this process was started. It needs the standard library alone,
because what it measures begins with the imports of the command.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["PHASES", "Clock", "watched"]

IMPORTS, OTHER, CLOCK = "imports", "other", "clock"
PHASES = {
    "data": (
        "dao.learner.data.load:load",
        "dao.learner.data.load:fit",
        "dao.learner.data.load:ceilings",
    ),
    "checks before": ("dao.learner.pipeline.preflight:check",),
    "model": (
        "dao.learner.encoder.scratch:find_encoder",
        "dao.learner.model.model:build",
        "dao.learner.inference.load:load",
        "dao.learner.inference.load:opened",
    ),
    "tokens": ("dao.learner.inference.predictor:Predictor.examples",),
    "frozen states": ("dao.learner.model.prefix:cache_prefix",),
    "steps": ("dao.learner.training.optimizer_step:train_step",),
    "validation": ("dao.learner.training.validation:validate",),
    "checkpoints": ("dao.learner.training.resume:save",),
    "growth": (
        "dao.learner.training.state:State.__init__",
        "dao.learner.training.growth:grow",
        "dao.learner.dendrites.dendrites:Dendrites.detach",
    ),
    "graph of perforatedai": ("dao.learner.dendrites.dendrites:Dendrites.graph",),
    "baselines": ("dao.learner.scoring.scoring:baselines",),
    "predicting": (
        "dao.learner.scoring.scoring:predict",
        "dao.learner.inference.load:Model.answers",
    ),
    "figures": ("dao.learner.pipeline.measure:measure",),
    "writing": (
        "dao.learner.pipeline.recording:save_model",
        "dao.learner.pipeline.recording:record",
    ),
    "page of the run": ("dao.learner.run_page.page:write_run_page",),
    "experiment's report": (
        "dao.learner.experiment.report.report:write_report",
        "dao.learner.experiment.findings.effects:findings",
    ),
}
"""Phase -> the functions whose seconds it has, less those of other phases that they call."""


class Clock:
    """Seconds of one thread per phase; of two phases, one inside the other, the inner has them."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._thread = threading.get_ident()
        self._last = now()
        self._open = [OTHER]
        self.seconds: dict[str, float] = {}

    def _lap(self) -> None:
        now, phase = self._now(), self._open[-1]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Until its end, seconds belong to this phase; in another thread nothing changes."""
        if threading.get_ident() != self._thread:
            yield
            return
        self._lap()
        self._open.append(name)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

    def total(self) -> dict[str, float]:
        """The seconds of all phases up to now."""
        self._lap()
        return dict(self.seconds)


@contextmanager
def watched(clock: Clock, phases: Mapping[str, tuple[str, ...]] = PHASES) -> Iterator[None]:
    """Every import, and every call of a function of `phases`, is a phase of the clock.

    Functions are put in place as their modules are imported, so that nothing is imported which the
    command would not import itself.
    """
    waiting = {place: name for name, places in phases.items() for place in places}
    plain, plain_module = builtins.__import__, importlib.import_module

    def watch_new() -> None:
        with clock.phase(CLOCK):
            _put({p: waiting.pop(p) for p in list(waiting) if _ready(p)}, clock)

    def within(call: Callable[..., Any], name: str, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        if name in sys.modules and clock._open[-1] == IMPORTS:
            return call(*given, **named)
        before = len(sys.modules)
        with clock.phase(IMPORTS):
            found = call(*given, **named)
        if len(sys.modules) > before and IMPORTS not in clock._open:
            watch_new()
        return found

    def watched_import(name: str, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        return within(plain, name, name, *given, **named)

    def watched_module(name: str, *given: Any, **named: Any) -> ModuleType:  # noqa: ANN401
        found: ModuleType = within(plain_module, name, name, *given, **named)
        return found

    builtins.__import__, importlib.import_module = watched_import, watched_module
    try:
        yield
    finally:
        builtins.__import__, importlib.import_module = plain, plain_module


def _ready(place: str) -> bool:
    """Whether the function of `MODULE:NAME` is there, its module imported to the end."""
    module = sys.modules.get(place.partition(":")[0])
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


def _put(places: Mapping[str, str], clock: Clock) -> None:
    """Put functions that are timed in the places of those at `MODULE:NAME`, and of other names.

    Args:
        places: place -> phase.
        clock: that they are timed by.
    """
    timed: dict[int, Any] = {}
    for place, phase in places.items():
        module_name, _, name = place.partition(":")
        owner: Any = sys.modules[module_name]
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part)
        function = getattr(owner, last)
        timed[id(function)] = _timed(function, phase, clock)
        setattr(owner, last, timed[id(function)])
    for module in list(sys.modules.values()) if timed else ():
        for other, value in list(vars(module).items()) if module is not None else ():
            if id(value) in timed:
                setattr(module, other, timed[id(value)])


def _timed(function: Callable[..., Any], phase: str, clock: Clock) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        with clock.phase(phase):
            return function(*given, **named)

    return timed


def _run(file: str, started: str, module: str, *arguments: str) -> None:
    clock = Clock()
    before = time.time() - float(started)
    sys.argv, sys.path[0] = [module, *arguments], ""
    try:
        with watched(clock):
            if module.endswith(".py"):
                runpy.run_path(module, run_name="__main__")
            else:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(file).write_text(json.dumps({"start of Python": before, **clock.total()}))


if __name__ == "__main__":
    _run(*sys.argv[1:])
