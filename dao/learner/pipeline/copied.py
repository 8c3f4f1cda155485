"""When another run grew, for a run that grows or restarts after the same validations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dao.errors import UserError
from dao.learner.settings.config import Config
from dao.learner.storage.record import RunFolder
from dao.learner.training.plan import Copied

__all__ = ["copied_growths"]

ALIKE = ("where", "grow_at", "patience", "max_sets")
"""Settings of dendrites that say where and when they grow."""


def copied_growths(cfg: Config, data: Mapping[str, Any]) -> Copied | None:
    """The growths of the run that `dendrites.growths_of` names; None where it names none.

    Args:
        cfg: of the run that copies.
        data: the report on its data.

    Raises:
        UserError: there is no such run, it has not finished, no dendrites grew in it, or it is of
            another seed, of other data or of other settings of growth.
    """
    if not cfg.dendrites.growths_of:
        return None
    folder = RunFolder(Path(cfg.dendrites.growths_of))
    if not (folder.path / "config.yaml").is_file():
        raise _refused(folder, "no run", "Train it first")
    if not folder.finished:
        raise _refused(folder, "a run that has not finished", "Finish it first")
    other, metrics = folder.config(), folder.read("metrics.json", "dendrites", "data")
    grown = metrics["dendrites"]
    if not grown or other.dendrites.control != "none" or "ended_validation" not in grown:
        raise _refused(folder, "one without a record of growths", "Train the run with dendrites")
    own = cfg.dendrites
    pairs = {"seed": (other.seed, cfg.seed)}
    for key in ALIKE:
        pairs[f"dendrites.{key}"] = getattr(other.dendrites, key), getattr(own, key)
    for name, (there, here) in pairs.items():
        if there != here:
            raise _refused(
                folder, f"`{name}` {there} there and {here} here", f"Give both one {name}"
            )
    if not _same_data(metrics["data"], data, alike=list(other.tasks) == list(cfg.tasks)):
        raise _refused(folder, "other data there", "Train both on the same data")
    return Copied(
        growths=tuple(grown["switch_validations"]),
        ended=grown["ended_validation"],
        validations=len(folder.rows("validation.jsonl")),
    )


def _same_data(there: Mapping[str, Any], here: Mapping[str, Any], *, alike: bool) -> bool:
    """Whether two runs learn from the same rows; with other tasks, from the same files."""
    if alike:
        return bool(there["fingerprint"] == here["fingerprint"])
    files = [[source.get("sha256") for source in report["sources"]] for report in (there, here)]
    return files[0] == files[1]


def _refused(folder: RunFolder, found: str, advice: str) -> UserError:
    return UserError(
        f"`dendrites.growths_of` should be a finished run with dendrites, of the same seed and "
        f"data. Found {found}: {folder.path}. {advice}."
    )
