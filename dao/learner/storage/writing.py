"""The run folder for the run itself: one process writes, and every other one is silent."""

from __future__ import annotations

import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, final

from torch import Tensor

from dao.learner.settings.config import Config
from dao.learner.storage import checkpoint, claiming
from dao.learner.storage.files import PARTIAL, append_line, remove, sync, write_atomically
from dao.learner.storage.record import STAGE_WEIGHTS, RunFolder

__all__ = ["OwnedRecord", "RunRecord", "SilentRecord"]

LOGS = ("history.jsonl", "validation.jsonl", "skipped.jsonl")


class RunRecord(RunFolder, ABC):
    """A run folder with the methods by which a run changes it.

    These methods are abstract here. So whoever adds one has to write both versions of it: for the
    process that writes, and for the processes that stay silent.
    """

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes on this machine out; a kill releases the lock.

        Raises:
            UserError: another process is at work in this folder.
        """

    @abstractmethod
    def create(self, cfg: Config, *, overwrite: bool) -> None:
        """Claim the folder for a new run and write its settings, as `claiming.claim`.

        Raises:
            UserError: the folder holds a run or other files, or cannot be written.
        """

    @abstractmethod
    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""

    @abstractmethod
    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a JSON-lines file; NaN and infinity become null."""

    @abstractmethod
    def rewind(self, step: int) -> None:
        """Drop the rows of steps after `step`, which the resumed run will log again.

        Files that a kill has left unfinished are removed as well.
        """

    @abstractmethod
    def save_checkpoint(
        self,
        state: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        optimizer: Mapping[str, Any],
        files: tuple[Path, ...] = (),
    ) -> None:
        """As `checkpoint.save_checkpoint`, once the logs are on the disk."""

    @abstractmethod
    def put_back(self, files: Iterable[Path]) -> None:
        """Overwrite files with their copies in the latest checkpoint."""

    @abstractmethod
    def remove_checkpoints(self) -> None:
        """Delete all checkpoints."""

    @abstractmethod
    def remove_stage_weights(self) -> None:
        """Delete the weights of the stages, which only a resumption needs; their logs stay."""


@final
class OwnedRecord(RunRecord):
    """The record of the one process that writes."""

    def locked(self) -> AbstractContextManager[None]:
        """As `claiming.locked`."""
        return claiming.locked(self.path)

    def create(self, cfg: Config, *, overwrite: bool) -> None:
        """As `claiming.claim`."""
        claiming.claim(self, cfg, overwrite=overwrite)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""
        write_atomically(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a JSON-lines file; NaN and infinity become null."""
        append_line(self.path / name, json.dumps(_finite(row), allow_nan=False))

    def rewind(self, step: int) -> None:
        """Drop the rows of steps after `step`, which the resumed run will log again.

        Files that a kill has left unfinished are removed as well.
        """
        for name in LOGS:
            path = self.path / name
            if path.is_file():
                lines = path.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if _step_of(line) <= step]
                write_atomically(path, b"".join(kept))
        for path in list(self.path.glob(f"*{PARTIAL}")):
            remove(path)

    def save_checkpoint(
        self,
        state: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        optimizer: Mapping[str, Any],
        files: tuple[Path, ...] = (),
    ) -> None:
        """As `checkpoint.save_checkpoint`, once the logs are on the disk."""
        for name in LOGS:
            if (self.path / name).is_file():
                sync(self.path / name)
        checkpoint.save_checkpoint(self.checkpoints, state, tensors, optimizer, files)

    def put_back(self, files: Iterable[Path]) -> None:
        """Overwrite files with their copies in the latest checkpoint."""
        for file in files:
            shutil.copy2(self.latest_checkpoint() / "files" / file.name, file)

    def remove_checkpoints(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def remove_stage_weights(self) -> None:
        """Delete the weights of the stages, which only a resumption needs; their logs stay."""
        for stage in self.stages():
            (stage.path / STAGE_WEIGHTS).unlink(missing_ok=True)


@final
class SilentRecord(RunRecord):
    """The record of every other process, which reads and never writes."""

    def locked(self) -> AbstractContextManager[None]:
        """Hold no lock, because the first rank does."""
        return nullcontext()

    def create(self, cfg: Config, *, overwrite: bool) -> None:
        """Do nothing."""

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Do nothing."""

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def rewind(self, step: int) -> None:
        """Do nothing."""

    def save_checkpoint(
        self,
        state: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        optimizer: Mapping[str, Any],
        files: tuple[Path, ...] = (),
    ) -> None:
        """Do nothing."""

    def put_back(self, files: Iterable[Path]) -> None:
        """Do nothing."""

    def remove_checkpoints(self) -> None:
        """Do nothing."""

    def remove_stage_weights(self) -> None:
        """Do nothing."""


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: bytes) -> float:
    """The step of a row of a log; infinity for a row that a kill has cut off."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
