"""A progress that tells the trackers of a run what it tells the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

from dao.learner.basics.wording import one_line
from dao.learner.processes import ranks
from dao.learner.settings.config import Config
from dao.learner.storage.writing import RunRecord
from dao.learner.tracking.bounded import Bounded
from dao.learner.tracking.trackers import TrackedRun, identity, open_tracker
from dao.learner.tracking.values import of_settings, of_step, of_test, of_validation
from dao.learner.training.job import Progress

__all__ = ["FILE", "Tracked", "Trackers", "tracked"]

FILE = "tracking.json"
LONGEST = 300  # characters of another package's error
OPENING, PATIENCE = 60.0, 30.0
"""Seconds that a tracker has to be imported and opened, and for each thing that it is told."""


class Trackers:
    """The trackers of one run.

    A tracker is opened when it has something to say for the first time, so that a run which is
    refused leaves no empty entry anywhere. One that raises or does not come back in time
    (`OPENING`, `PATIENCE`), when it is opened or later, is told of in a line and asked no more by
    this process: the run goes on, its logs have every figure, and a resumption asks again.
    tracking.json keeps what each tracker calls the run, and its failure.

    Args:
        cfg: the settings of the run.
        folder: of the run; a run that goes on has its tracking.json there.
        note: is told of failures.
    """

    def __init__(self, cfg: Config, folder: RunRecord, note: Callable[[str], None]) -> None:
        self._cfg, self._folder, self._note = cfg, folder, note
        self._open: dict[str, Any] = {}
        self._threads: dict[str, Bounded] = {}
        self._waiting = list(cfg.train.track) if ranks.is_first() else []
        known = (folder.path / FILE).is_file()
        self._known: dict[str, Any] = folder.read(FILE, "trackers")["trackers"] if known else {}

    def __bool__(self) -> bool:
        """Whether any tracker is told of the run by this process."""
        return bool(self._open or self._waiting)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Give all trackers the numbers of a step."""
        waiting, self._waiting = self._waiting, []
        for unopened in waiting:
            self._try(unopened, step, partial(self._start, unopened, step))
        for name, tracker in list(self._open.items()):
            self._try(name, step, partial(self._tell, name, tracker.log, dict(values), step=step))

    def close(self, step: int) -> None:
        """Let all trackers finish what they have begun."""
        for name, tracker in list(self._open.items()):
            self._try(name, step, partial(self._tell, name, tracker.finish))
        self._open.clear()

    def _start(self, name: str, step: int) -> None:
        cfg, known = self._cfg, self._known.get(name, {}).get("run")
        place, of_project = self._folder.path, f"{cfg.arm}/seed={cfg.seed}"
        run = TrackedRun(cfg.data_name, of_project, place, known, step)
        self._threads[name] = Bounded(name)
        tracker, called = self._threads[name](partial(_opened, name, run), OPENING)
        self._open[name] = tracker
        self._known[name] = {"run": called}
        self._folder.write(FILE, {"trackers": self._known})
        if known is None and name == "tensorboard":  # its hyperparameters would be a second run
            text = "\n".join(f"    {line}" for line in cfg.to_yaml().splitlines())
            self._tell(name, tracker.log, {"settings": text}, step=step)
        elif known is None:
            settings = of_settings(cfg.model_dump(mode="json"))
            self._tell(name, tracker.store_init_configuration, settings)

    def _tell(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """What a tracker's own call returns. It changes nothing here, since it may come late."""
        return self._threads[name](partial(call, *given, **named), PATIENCE)

    def _try(self, name: str, step: int, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            reason = (one_line(error) or type(error).__name__)[:LONGEST]
            self._open.pop(name, None)
            failed = {"step": step, "reason": reason}
            self._known[name] = {**self._known.get(name, {}), "failed": failed}
            self._folder.write(FILE, {"trackers": self._known})
            self._note(
                f"train.track: {name} failed at step {step} and is told no more: {reason}. The run "
                f"goes on; history.jsonl and validation.jsonl have every figure"
            )


def _opened(name: str, run: TrackedRun) -> tuple[Any, str]:
    tracker = open_tracker(name, run)
    return tracker, identity(name, tracker)


def tracked(cfg: Config, folder: RunRecord, shown: Progress) -> Tracked:
    """The progress of a run, for the terminal and, on the first rank, for its trackers."""
    return Tracked(shown, Trackers(cfg, folder, shown.note))


class Tracked:
    """A progress for the terminal and for trackers.

    Args:
        shown: the progress for the terminal.
        trackers: told of every row.
        stage: of a run with experts, put before the names of the numbers; empty: none.
        before: steps of earlier stages, since trackers want steps that never fall.
    """

    def __init__(
        self, shown: Progress, trackers: Trackers, stage: str = "", before: int = 0
    ) -> None:
        self._shown, self._trackers = shown, trackers
        self._stage, self._before = f"{stage}/" if stage else "", before
        self._last = before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._trackers.close(self._last)

    def note(self, text: str) -> None:
        """Show a line."""
        self._shown.note(text)

    def step(self, row: Mapping[str, Any], total: int) -> None:
        """Show a training step and give its row of history.jsonl to the trackers."""
        self._shown.step(row, total)
        self._log(of_step, row)

    def validation(self, row: Mapping[str, Any]) -> None:
        """Show a validation and give its row of validation.jsonl to the trackers."""
        self._shown.validation(row)
        self._log(of_validation, row)

    def of_stage(self, name: str, before: int) -> Progress:
        """The progress of a stage of a run with experts."""
        return Tracked(self._shown.of_stage(name, before), self._trackers, name, before)

    def finished(self, metrics: Mapping[str, Any]) -> None:
        """Give the test figures of the selected model to the trackers, at the last step.

        Args:
            metrics: the content of metrics.json.
        """
        if self._trackers:
            self._trackers.log(of_test(metrics), metrics["training"]["steps"])

    def _log(
        self, values: Callable[[Mapping[str, Any]], Mapping[str, float]], row: Mapping[str, Any]
    ) -> None:
        if self._trackers:
            self._last = self._before + int(row["step"])
            named = {f"{self._stage}{name}": value for name, value in values(row).items()}
            self._trackers.log(named, self._last)
