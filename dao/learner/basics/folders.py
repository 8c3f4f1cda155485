"""Folders: where shared files are cached, where an encoder is, and what is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from dao.errors import UserError
from dao.learner.basics.program import command

__all__ = ["absolute", "check_folder", "shared_cache"]


def shared_cache() -> Path:
    """The folder for what runs can share: $XDG_CACHE_HOME/dao or ~/.cache/dao."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dao"


def absolute(name: str) -> str:
    """The full path of a folder, so that it is found from everywhere; other names as they are."""
    folder = Path(name).expanduser()
    return os.path.abspath(folder) if folder.is_dir() else name


def check_folder(name: str) -> None:
    """Refuse a folder that holds something else of a run in place of a whole model.

    Raises:
        UserError: it holds an adapter, or is a run folder; the message says what to give instead.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        base = _base_of(folder)
        raise UserError(
            f"`encoder.name` should be a whole model. Found in {name} an adapter of "
            f"{base or 'a model that it does not name'}. Give --encoder {base or 'MODEL'}; the "
            f"adapter itself is used by {command('predict')} RUN, with the run that it belongs to."
        )
    if (folder / "config.yaml").is_file():
        whole = folder / "encoder"
        instead = str(whole) if whole.is_dir() else "MODEL, of which the run trained an adapter"
        raise UserError(
            f"`encoder.name` should be a whole model. Found the run folder {name}. Give --encoder "
            f"{instead}; the run itself is used by {command('evaluate')} {name}."
        )


def _base_of(folder: Path) -> str | None:
    """The model that an adapter stands on: by its name, or in the folder of the same run."""
    try:
        content = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        name = str(content["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    beside = folder.parent / name
    return str(beside) if beside.is_dir() else name
