"""The trackers that a run can be watched with, each opened through accelerate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dao.errors import UserError

__all__ = ["TrackedRun", "check_installed", "identity", "open_tracker"]


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it is opened.

    Attributes:
        project: what runs are filed under: the name of the data.
        name: of the run among those: arm and seed.
        folder: the run folder.
        known_as: what the tracker calls this run since it began; None for a run that begins.
        first: the first step that the tracker will be told of.
    """

    project: str
    name: str
    folder: Path
    known_as: str | None
    first: int


def check_installed(names: Sequence[str]) -> None:
    """Refuse trackers whose packages are missing; each package is named like its tracker.

    Raises:
        UserError: naming the packages, and what installs them.
    """
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise UserError(
            f"`train.track` should name trackers that are installed. Found {', '.join(missing)}, "
            f"which {'is' if len(missing) == 1 else 'are'} not. Run: pip install "
            f"{' '.join(missing)}"
        )


def _installed(name: str) -> bool:
    found = find_spec(name)
    # Some trackers leave a folder of their own name behind, which Python takes for a package.
    return found is not None and found.origin is not None


def open_tracker(name: str, run: TrackedRun) -> Any:  # noqa: ANN401
    """A started tracker of accelerate, which continues where the run is known to it.

    Args:
        name: a key of `OPENED`.
        run: what it will be told of.

    Raises:
        Exception: whatever the tracker's own package raises, for example without its server.
    """
    from accelerate import PartialState

    PartialState()  # accelerate's trackers log by it, and need no Accelerator
    tracker = OPENED[name](run)
    tracker.start()
    return tracker


def identity(name: str, tracker: Any) -> str:  # noqa: ANN401
    """What the tracker calls the run, by which `open_tracker` continues it."""
    return str(IDENTITIES[name](tracker.tracker))


def _tensorboard(run: TrackedRun) -> Any:  # noqa: ANN401
    from accelerate.tracking import TensorBoardTracker

    # Rows from there on are of the time after the checkpoint, and are logged again.
    return TensorBoardTracker("tensorboard", run.folder, purge_step=run.first)


def _trackio(run: TrackedRun) -> Any:  # noqa: ANN401
    from accelerate.tracking import TrackioTracker

    known = run.known_as
    resume = "never" if known is None else "allow"
    return TrackioTracker(run.project, name=known or run.name, resume=resume)


def _wandb(run: TrackedRun) -> Any:  # noqa: ANN401
    from accelerate.tracking import WandBTracker

    # Whether a run can be gone on with is asked of the server, so only where there was one before.
    resume = {} if run.known_as is None else {"id": run.known_as, "resume": "allow"}
    return WandBTracker(run.project, name=run.name, dir=str(run.folder), **resume)


def _mlflow(run: TrackedRun) -> Any:  # noqa: ANN401
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(run.project, run_name=run.name, run_id=run.known_as)


OPENED: Mapping[str, Callable[[TrackedRun], Any]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
IDENTITIES: Mapping[str, Callable[[Any], Any]] = {
    "tensorboard": lambda writer: writer.log_dir,
    "trackio": lambda run: run.name,
    "wandb": lambda run: run.id,
    "mlflow": lambda run: run.info.run_id,
}
