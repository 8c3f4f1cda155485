"""Claiming a run folder: for one process at a time, and never in place of other files."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dao.errors import UserError
from dao.learner.settings.config import Config
from dao.learner.storage.files import PARTIAL, remove, write_atomically
from dao.learner.storage.record import RunFolder

__all__ = ["check_claimable", "check_own", "claim", "locked"]

# Every name that a run gives to a file or folder directly below its own.
WRITTEN = {
    "PAI", "README.md", "adapter", "base", "calibration.json", "checkpoints", "config.yaml",
    "data.json", "dendrites.json", "dendrites.safetensors", "encoder", "experts", "experts.json",
    "heads.safetensors", "history.jsonl", "machine.json", "metrics.json", "model-int8.onnx",
    "model-int8.onnx.data", "model-int8.onnx.json", "precision_recall.png", "predictions.csv",
    "report.html", "router.safetensors", "skipped.jsonl", "stages", "start", "tasks.json",
    "tensorboard", "threshold.json", "thresholds", "tokenizer", "tracking.json",
    "validation.jsonl", "wandb",
}  # fmt: skip


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes on this machine out; a kill releases the lock.

    Raises:
        UserError: another process is at work in this folder.
    """
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"dao-run-{name}"
    lock, holder = FileLock(f"{place}.lock", timeout=0), Path(f"{place}.holder")
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"A run folder should have one process at a time. Found another at work in "
            f"{path}: {_read_holder(holder)}. Wait for it, or choose another folder with "
            f"--output."
        ) from None
    try:
        with suppress(OSError):
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            holder.write_text(f"process {os.getpid()} since {since}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def claim(folder: RunFolder, cfg: Config, *, overwrite: bool) -> None:
    """Claim the folder for a new run and write its settings.

    Files that a run writes are removed, and no others. A run that has trained is removed with
    `overwrite` only.

    Raises:
        UserError: as `check_claimable`; or the folder cannot be written.
    """
    check_claimable(folder, overwrite=overwrite)
    # metrics.json is removed first, and config.yaml replaced last: after a kill in between, the
    # folder is still that of a run, and of an unfinished one.
    present, last = _names(folder.path), ("config.yaml",)
    for name in (*(present & {"metrics.json"}), *sorted(present - {"metrics.json", *last})):
        remove(folder.path / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_atomically(folder.path / "config.yaml", cfg.to_yaml())


def check_claimable(folder: RunFolder, *, overwrite: bool) -> None:
    """Refuse a folder that a new run may not take.

    Raises:
        UserError: the folder holds files that no run writes; or a run, without `overwrite`.
    """
    check_own(folder)
    if folder.started and not overwrite:
        state = "a finished run" if folder.finished else "an unfinished run"
        go_on = f"continue it with --resume {shlex.quote(str(folder.path))}, "
        rest = "" if folder.finished else go_on
        raise UserError(
            f"The run folder should be new. Found {state} in {folder.path}: {rest}"
            f"replace it with --overwrite, or choose another with --output."
        )


def check_own(folder: RunFolder) -> None:
    """Refuse a folder with files that no run writes, which is never overwritten.

    Raises:
        UserError: it holds such files, or is a file itself.
    """
    present = _names(folder.path)
    # A kill may have left config.yaml, which a run writes first, under its temporary name.
    begun = present == {"config.yaml" + PARTIAL}
    own = {name.removesuffix(PARTIAL) for name in present} <= WRITTEN
    if folder.path.is_file() or not own or (present and not begun and not _is_run(folder)):
        raise UserError(
            f"The run folder should be new. Found other files at {folder.path}. "
            f"Choose another with --output."
        )


def _names(path: Path) -> set[str]:
    return {inner.name for inner in path.iterdir()} if path.is_dir() else set()


def _is_run(folder: RunFolder) -> bool:
    try:
        folder.config()
    except UserError:
        return False
    return True


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:80] or "an unknown process"
    except OSError:
        return "an unknown process"
