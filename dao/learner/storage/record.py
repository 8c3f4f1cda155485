"""The run folder for its readers: settings, history, checkpoints, results."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from dao.errors import UserError
from dao.learner.basics.program import command
from dao.learner.settings.config import Config, load_config
from dao.learner.storage import checkpoint
from dao.learner.storage.files import digest

__all__ = ["THRESHOLDS", "RunFolder", "check_writable"]

THRESHOLDS = "thresholds"  # a folder per task, so that no task's name is that of a file of the run

# The files of a finished run that predictions depend on; metrics.json has their digests.
MODEL = ("adapter", "base", "encoder", "experts", "heads.safetensors", "router.safetensors",
         "dendrites.safetensors", "dendrites.json", "tasks.json", "calibration.json")  # fmt: skip
# A stage writes stage.json last: with this file it is finished.
STAGES, STAGE, STAGE_WEIGHTS = "stages", "stage.json", "weights.safetensors"


class RunFolder:
    """The files of one run, for reading; a `writing.RunRecord` also writes them.

    `metrics.json` is written last, and whole: a run that has it is finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    @property
    def started(self) -> bool:
        """Whether a run has trained here; a folder in which none has may be replaced unasked."""
        places = (self.path, *(stage.path for stage in self.stages()))
        return any((place / "history.jsonl").is_file() for place in places)

    def stage(self, name: str) -> Self:
        """The folder of a stage of this run; it need not exist yet."""
        return type(self)(self.path / STAGES / name)

    def stages(self) -> list[RunFolder]:
        """The folders of the stages that exist, in the order of their names."""
        root = self.path / STAGES
        return [RunFolder(path) for path in sorted(root.iterdir())] if root.is_dir() else []

    @property
    def has_checkpoint(self) -> bool:
        """Whether this folder itself has a checkpoint to continue from."""
        return checkpoint.latest(self.checkpoints) is not None

    @property
    def _can_continue(self) -> bool:
        """Whether the run can be continued: from a checkpoint, or from what a stage has left."""
        stages = self.stages()
        done = any((stage.path / STAGE).is_file() or stage.has_checkpoint for stage in stages)
        return done or self.has_checkpoint

    def check_resumable(self) -> None:
        """Refuse a run that is finished or has no checkpoint."""
        if self.finished:
            raise UserError(f"A run to resume should be unfinished. The one in {self.path} is not.")
        self.config()
        if not self._can_continue:
            self.latest_checkpoint()

    def how_to_continue(self) -> str:
        """A line that says how to go on with a run that was stopped."""
        if self.finished:
            return f"the run in {self.path} is finished"
        if not self._can_continue:
            return f"no checkpoint yet: start it again, with --output {self.path} --overwrite"
        return f"{command('train')} --resume {shlex.quote(str(self.path))} continues"

    def check_same_data(self, report: Mapping[str, Any]) -> None:
        """Refuse data other than those the run began with.

        Args:
            report: on the data, with their `fingerprint`.
        """
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
                f"with {command('train')} --resume, or start it again."
            )
        self.read("metrics.json")

    def model_digests(self) -> dict[str, str]:
        """SHA-256 of every file that predictions depend on, by its path in the folder."""
        places = [self.path / name for name in MODEL]
        inner = [path for place in places for path in sorted(place.rglob("*"))]
        files = [path for path in (*places, *inner) if path.is_file()]
        return {path.relative_to(self.path).as_posix(): digest(path) for path in files}

    def check_unchanged(self) -> None:
        """Refuse a finished run of which a file has changed since the test.

        A run of an earlier revision has no digests, and is accepted.
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
                f"Give the folder of a run{self._below()}."
            )
        return load_config(path, overrides, before={"data.rules": 1, "dao.rules": 1})

    def _below(self) -> str:
        """An example of a run further down, where there is one."""
        deep = (self.path.glob("/".join(["*"] * depth + ["config.yaml"])) for depth in (1, 2, 3))
        found = next((path.parent for level in deep for path in sorted(level)), None)
        return f", such as {found}" if found else ""

    def read(self, name: str, *needed: str) -> dict[str, Any]:
        """The content of a JSON file of the run.

        Args:
            name: of the file.
            needed: keys that it should have.

        Raises:
            UserError: the file cannot be read, or lacks a key.
        """
        try:
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or any(key not in content for key in needed):
                raise ValueError(f"no mapping with {', '.join(needed) or 'names'}")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"A finished run should hold {name}. In {self.path} it cannot be read: {error}."
            ) from None
        return content

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSON-lines file."""
        text = (self.path / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def count(self, name: str) -> int:
        """The number of rows of a JSON-lines file, 0 where there is none."""
        return len(self.rows(name)) if (self.path / name).is_file() else 0

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def latest_checkpoint(self) -> Path:
        """The newest whole checkpoint.

        Raises:
            UserError: the run was stopped before its first checkpoint.
        """
        found = checkpoint.latest(self.checkpoints)
        if found is None:
            raise UserError(
                f"A run to resume should have a checkpoint. Found none in {self.path}: it stopped "
                f"before the first. Start it again with --overwrite."
            )
        return found


def check_writable(path: Path) -> None:
    """Refuse a file whose folder is missing or closed, before the work of filling it.

    Raises:
        UserError: the file could not be written.
    """
    odd = path.exists() and not path.is_file()  # a folder; or a device, which would be replaced
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or odd:
        raise UserError(
            f"The output should be a file in a folder that can be written. Found {path}. "
            f"Create the folder or choose another."
        )
