"""The run folder: settings, history, checkpoints, results, and the proof of being finished."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

from dao.errors import UserError
from dao.learner.config import Config, load_config

__all__ = [
    "RunFolder",
    "check_writable",
    "load_checkpoint",
    "provenance",
    "write_atomically",
]

# Every name that a run gives to a file or folder directly below its own.
WRITTEN = {
    "PAI", "README.md", "adapter", "checkpoints", "config.yaml", "data.json", "dendrites.json",
    "dendrites.safetensors", "heads.safetensors", "history.jsonl", "metrics.json",
    "predictions.csv", "tasks.json", "tokenizer", "validation.jsonl",
}  # fmt: skip
PACKAGES = ("torch", "transformers", "peft", "perforatedai", "bitsandbytes", "scikit-learn")


class RunFolder:
    """One run's files; `metrics.json` appears last, by rename, and so means "finished"."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    @property
    def started(self) -> bool:
        """Whether a run has trained here; one that failed before may be replaced unasked."""
        return (self.path / "history.jsonl").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes on this machine out; a kill releases the lock.

        Raises:
            UserError: another process is at work in this folder.
        """
        name = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]
        lock = FileLock(Path(tempfile.gettempdir()) / f"dao-run-{name}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"A run folder should have one process at a time. Found another at work in "
                f"{self.path}. Wait for it, or choose another folder with --output."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def create(self, cfg: Config, *, overwrite: bool) -> None:
        """Claim the folder for a new run and write its settings.

        Only what a run writes is ever removed, and a run that has trained only with `overwrite`.

        Raises:
            UserError: the folder holds a run or other files, or cannot be written.
        """
        present = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        if self.path.is_file() or not present <= WRITTEN or (present and not self._is_run()):
            raise UserError(
                f"The run folder should be new. Found other files at {self.path}. "
                f"Choose another with --output."
            )
        if self.started and not overwrite:
            state = "a finished run" if self.finished else "an unfinished run"
            rest = "" if self.finished else f"continue it with --resume {self.path}, "
            raise UserError(
                f"The run folder should be new. Found {state} in {self.path}: {rest}"
                f"replace it with --overwrite, or choose another with --output."
            )
        if present:
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", cfg.to_yaml())

    def _is_run(self) -> bool:
        try:
            self.config()
        except UserError:
            return False
        return True

    def check_resumable(self) -> None:
        """Refuse a run that is finished or has no checkpoint."""
        if self.finished:
            raise UserError(f"A run to resume should be unfinished. The one in {self.path} is not.")
        self.config()
        self.latest_checkpoint()

    def check_same_data(self, report: Mapping[str, Any]) -> None:
        """Refuse data other than those the run began with; `report` has their fingerprint."""
        if self.read("data.json")["fingerprint"] != report["fingerprint"]:
            raise UserError(
                f"The data of {self.path} should be those the run began with. Found that they "
                f"have changed since. Restore them."
            )

    def check_finished(self) -> None:
        """Refuse a folder without a finished run."""
        self.config()
        if not self.finished:
            raise UserError(
                f"A run to evaluate should be finished. The one in {self.path} is not: continue it "
                f"with train.py --resume, or start it again."
            )

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """The settings of the run that is here; `overrides` as for `load_config`."""
        path = self.path / "config.yaml"
        if not path.is_file():
            raise UserError(
                f"A run folder should hold config.yaml. Found none in {self.path}. "
                f"Give the folder that train.py wrote."
            )
        return load_config(path, overrides)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""
        write_atomically(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the run."""
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"A finished run should hold {name}. In {self.path} it cannot be read: {error}."
            ) from None
        return content

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a JSON-lines file; NaN and infinity become null."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(row), allow_nan=False) + "\n")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSON-lines file."""
        text = (self.path / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def truncate(self, name: str, step: int) -> None:
        """Drop the rows after `step`: a killed run logged them, and its resumption will again."""
        path = self.path / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n")]
            kept = [line for line in kept if json.loads(line)["step"] <= step]
            write_atomically(path, "".join(kept))

    # -- checkpoints ---------------------------------------------------------------------------

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def save_checkpoint(
        self,
        state: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        optimizer: Mapping[str, Any],
        files: tuple[Path, ...] = (),
    ) -> None:
        """Write a checkpoint and then name it the latest; a kill at any moment leaves one whole.

        Args:
            state: JSON-able, with `step`.
            tensors: safetensors files by name.
            optimizer: what torch saves, readable without running code.
            files: copied under `files/`, for example perforatedai's own.
        """
        folder = self._checkpoints / f"step={state['step']:06d}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "files").mkdir(parents=True)
        for name, group in tensors.items():
            save_file({k: v.contiguous() for k, v in group.items()}, folder / f"{name}.safetensors")
        torch.save(optimizer, folder / "optimizer.pt")
        for file in files:
            shutil.copy2(file, folder / "files" / file.name)
        write_atomically(folder / "state.json", json.dumps(state))
        write_atomically(self._checkpoints / "latest", folder.name)
        for old in self._checkpoints.glob("step=*"):
            if old != folder:
                shutil.rmtree(old)

    def latest_checkpoint(self) -> Path:
        """The newest whole checkpoint.

        Raises:
            UserError: the run was stopped before its first checkpoint.
        """
        pointer = self._checkpoints / "latest"
        if not pointer.is_file():
            raise UserError(
                f"A run to resume should have a checkpoint. Found none in {self.path}: it stopped "
                f"before the first. Start it again with --overwrite."
            )
        return self._checkpoints / pointer.read_text(encoding="utf-8").strip()

    def put_back(self, files: Iterable[Path]) -> None:
        """Overwrite files with their copies in the latest checkpoint."""
        for file in files:
            shutil.copy2(self.latest_checkpoint() / "files" / file.name, file)

    def remove_checkpoints(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)


def load_checkpoint(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `save_checkpoint` was given: state, tensors and optimizer.

    Raises:
        UserError: the checkpoint is damaged.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        tensors = {path.stem: load_file(path) for path in folder.glob("*.safetensors")}
        optimizer = torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu")
    except Exception as error:  # each of the three formats has errors of its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"The checkpoint {folder} should be whole. Found: {reason}. "
            f"Start the run again with --overwrite."
        ) from None
    return state, tensors, optimizer


def check_writable(path: Path) -> None:
    """Refuse a file whose folder is missing or closed, before the work of filling it.

    Raises:
        UserError: the file could not be written.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise UserError(
            f"The output should be a file in a folder that can be written. Found {path}. "
            f"Create the folder or choose another."
        )


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a kill, sees either the old or the new content."""
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def provenance(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on beside the settings: versions, machine, revision."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions,
        "device": cuda or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "git": _git_state(Path(__file__).parents[2]),
    }


def _git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the project's own checkout; None for an installed copy."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
