"""The run folder: settings, history, checkpoints, results, and the proof of being finished."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from dao.errors import UserError
from dao.learner.settings.config import Config, load_config
from dao.learner.storage import checkpoint
from dao.learner.storage.files import PARTIAL, append_line, digest, sync, write_atomically

__all__ = ["THRESHOLDS", "RunFolder", "check_writable", "provenance"]

# Every name that a run gives to a file or folder directly below its own.
WRITTEN = {
    "PAI", "README.md", "adapter", "base", "checkpoints", "config.yaml", "data.json",
    "dendrites.json", "dendrites.safetensors", "encoder", "experts", "experts.json",
    "heads.safetensors", "history.jsonl", "machine.json", "metrics.json", "model-int8.onnx",
    "model-int8.onnx.data", "model-int8.onnx.json", "precision_recall.png", "predictions.csv",
    "router.safetensors", "skipped.jsonl", "stages", "start", "tasks.json", "threshold.json",
    "thresholds", "tokenizer", "validation.jsonl",
}  # fmt: skip
# Of a finished run: what predictions depend on, by its digest in metrics.json.
MODEL = ("adapter", "base", "encoder", "experts", "heads.safetensors", "router.safetensors",
         "dendrites.safetensors", "dendrites.json", "tasks.json")  # fmt: skip
# A stage is finished when the second is there, which is written last.
STAGES, STAGE, STAGE_WEIGHTS = "stages", "stage.json", "weights.safetensors"
THRESHOLDS = "thresholds"  # a folder per task, so that no task's name is that of a file of the run
LOGS = ("history.jsonl", "validation.jsonl", "skipped.jsonl")
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
        places = (self.path, *(stage.path for stage in self._stages()))
        return any((place / "history.jsonl").is_file() for place in places)

    def stage(self, name: str) -> RunFolder:
        """The folder of a stage of this run, which may not be there yet."""
        return type(self)(self.path / STAGES / name)

    def _stages(self) -> list[RunFolder]:
        root = self.path / STAGES
        return [RunFolder(path) for path in sorted(root.iterdir())] if root.is_dir() else []

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to continue from, here itself."""
        return checkpoint.latest(self._checkpoints) is not None

    @property
    def _can_continue(self) -> bool:
        """Whether there is something to continue from, here or in a stage."""
        stages = self._stages()
        done = any((stage.path / STAGE).is_file() or stage.has_checkpoint for stage in stages)
        return done or self.has_checkpoint

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes on this machine out; a kill releases the lock.

        Raises:
            UserError: another process is at work in this folder.
        """
        name = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"dao-run-{name}"
        lock, holder = FileLock(f"{place}.lock", timeout=0), Path(f"{place}.holder")
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"A run folder should have one process at a time. Found another at work in "
                f"{self.path}: {_read_holder(holder)}. Wait for it, or choose another folder with "
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

    def create(self, cfg: Config, *, overwrite: bool) -> None:
        """Claim the folder for a new run and write its settings.

        Only what a run writes is ever removed, and a run that has trained only with `overwrite`.

        Raises:
            UserError: the folder holds a run or other files, or cannot be written.
        """
        present = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        # A kill may have left the first file of all under its other name.
        begun = present == {"config.yaml" + PARTIAL}
        own = {name.removesuffix(PARTIAL) for name in present} <= WRITTEN
        if self.path.is_file() or not own or (present and not begun and not self._is_run()):
            raise UserError(
                f"The run folder should be new. Found other files at {self.path}. "
                f"Choose another with --output."
            )
        if self.started and not overwrite:
            state = "a finished run" if self.finished else "an unfinished run"
            rest = (
                ""
                if self.finished
                else f"continue it with --resume {shlex.quote(str(self.path))}, "
            )
            raise UserError(
                f"The run folder should be new. Found {state} in {self.path}: {rest}"
                f"replace it with --overwrite, or choose another with --output."
            )
        # A kill in between leaves neither what looks finished nor what looks foreign.
        last = ("config.yaml",)
        for name in (*(present & {"metrics.json"}), *sorted(present - {"metrics.json", *last})):
            self._remove(name)
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", cfg.to_yaml())

    def _remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

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
        if not self._can_continue:
            self.latest_checkpoint()

    def how_to_continue(self) -> str:
        """What to do with a run that was stopped."""
        if self.finished:
            return f"the run in {self.path} is finished"
        if not self._can_continue:
            return f"no checkpoint yet: start it again, with --output {self.path} --overwrite"
        return f"python train.py --resume {shlex.quote(str(self.path))} continues"

    def check_same_data(self, report: Mapping[str, Any]) -> None:
        """Refuse data other than those the run began with; `report` has their fingerprint."""
        if self.read("data.json", "fingerprint")["fingerprint"] != report["fingerprint"]:
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
        self.read("metrics.json")

    def model_digests(self) -> dict[str, str]:
        """SHA-256 of every file that predictions depend on, by its path in the folder."""
        places = [self.path / name for name in MODEL]
        inner = [path for place in places for path in sorted(place.rglob("*"))]
        files = [path for path in (*places, *inner) if path.is_file()]
        return {path.relative_to(self.path).as_posix(): digest(path) for path in files}

    def check_unchanged(self) -> None:
        """Refuse a finished run of which a file is not the one that was tested.

        Earlier runs have no digests, and pass.
        """
        stated = self.read("metrics.json").get("files")
        if stated is None:
            return
        found = self.model_digests()
        changed = sorted(n for n in {*found, *stated} if found.get(n) != stated.get(n))
        if changed:
            raise UserError(
                f"The files of a finished run should be those it was tested with. Found another "
                f"sha256 than in metrics.json, or no such file: {', '.join(changed)} in "
                f"{self.path}. Restore them, or train again."
            )

    def config(self, overrides: Iterable[str] = ()) -> Config:
        """The settings of the run that is here; `overrides` as for `load_config`."""
        path = self.path / "config.yaml"
        if not path.is_file():
            raise UserError(
                f"A run folder should hold config.yaml. Found none in {self.path}. "
                f"Give the folder that train.py wrote."
            )
        return load_config(path, overrides, before={"data.rules": 1, "dao.rules": 1})

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all."""
        write_atomically(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read(self, name: str, *needed: str) -> dict[str, Any]:
        """Read a JSON file of the run, which should have the keys `needed`."""
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or any(key not in content for key in needed):
                raise ValueError(f"no mapping with {', '.join(needed) or 'names'}")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"A finished run should hold {name}. In {self.path} it cannot be read: {error}."
            ) from None
        return content

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a JSON-lines file; NaN and infinity become null."""
        append_line(self.path / name, json.dumps(_finite(row), allow_nan=False))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSON-lines file."""
        text = (self.path / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def count(self, name: str) -> int:
        """The number of rows of a JSON-lines file, 0 where there is none."""
        return len(self.rows(name)) if (self.path / name).is_file() else 0

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`: a killed run logged them, and its resumption will again.

        What the kill left unfinished goes as well.
        """
        for name in LOGS:
            path = self.path / name
            if path.is_file():
                lines = path.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if _step_of(line) <= step]
                write_atomically(path, b"".join(kept))
        for path in list(self.path.glob(f"*{PARTIAL}")):
            self._remove(path.name)

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
        """See `checkpoint.save_checkpoint`; the logs are on the disk before."""
        for name in LOGS:
            if (self.path / name).is_file():
                sync(self.path / name)
        checkpoint.save_checkpoint(self._checkpoints, state, tensors, optimizer, files)

    def latest_checkpoint(self) -> Path:
        """The newest whole checkpoint.

        Raises:
            UserError: the run was stopped before its first checkpoint.
        """
        found = checkpoint.latest(self._checkpoints)
        if found is None:
            raise UserError(
                f"A run to resume should have a checkpoint. Found none in {self.path}: it stopped "
                f"before the first. Start it again with --overwrite."
            )
        return found

    def put_back(self, files: Iterable[Path]) -> None:
        """Overwrite files with their copies in the latest checkpoint."""
        for file in files:
            shutil.copy2(self.latest_checkpoint() / "files" / file.name, file)

    def remove_stage_weights(self) -> None:
        """Delete what a resumption would have needed of the stages; their logs stay."""
        for stage in self._stages():
            (stage.path / STAGE_WEIGHTS).unlink(missing_ok=True)

    def remove_checkpoints(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Refuse a file whose folder is missing or closed, before the work of filling it.

    Raises:
        UserError: the file could not be written.
    """
    odd = path.exists() and not path.is_file()  # a folder, or a device that would be replaced
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or odd:
        raise UserError(
            f"The output should be a file in a folder that can be written. Found {path}. "
            f"Create the folder or choose another."
        )


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


def _step_of(line: bytes) -> float:
    """The step of a row of a log; infinity for a row that a kill has cut off."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:80] or "an unknown process"
    except OSError:
        return "an unknown process"
