"""What of a finished run makes a model: into a folder of its own, or onto the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from dao.errors import UserError
from dao.learner.basics.wording import one_line
from dao.learner.storage.files import replace_folder
from dao.learner.storage.record import RunFolder

__all__ = ["PUBLISHED", "save_run", "upload"]

FILES = (
    "README.md", "calibration.json", "config.yaml", "data.json", "dendrites.json",
    "dendrites.safetensors", "experts.json", "heads.safetensors", "metrics.json",
    "router.safetensors", "tasks.json",
)  # fmt: skip
FOLDERS = ("adapter", "base", "encoder", "experts", "tokenizer")
PUBLISHED = [*FILES, *(f"{name}/**" for name in FOLDERS)]
"""Patterns of the files that are fetched from the hub: nothing beside them is looked at."""


def save_run(folder: RunFolder, path: Path) -> Path:
    """Copy the files of a finished run that a model is made of.

    Args:
        folder: of the run.
        path: a folder that is not there yet, or is empty.

    Returns:
        The folder.

    Raises:
        UserError: something else is there already.
        OSError: it could not be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"A model should be saved into a new folder. Found other files at {path}. Choose "
            f"another folder, or remove it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_folder(path, lambda place: _copy(folder, place))
    return path


def _copy(folder: RunFolder, place: Path) -> None:
    for name in FILES:
        if (folder.path / name).is_file():
            shutil.copyfile(folder.path / name, place / name)
    for name in FOLDERS:
        if (folder.path / name).is_dir():
            shutil.copytree(folder.path / name, place / name)
    # Where a run was made, and with what device, is nothing of the model.
    elsewhere = {"output": "", "cache": "", "device": "auto"}
    cfg = folder.config([f"{name}={value}" for name, value in elsewhere.items()])
    (place / "config.yaml").write_text(cfg.to_yaml(), encoding="utf-8")


def upload(folder: RunFolder, repo_id: str, *, private: bool, token: str | None) -> str:
    """Put the files of `save_run` into a repository of the hub, in one commit.

    Returns:
        The address of the commit.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    hub = HfApi(token=token)
    with TemporaryDirectory() as temporary:
        saved = save_run(folder, Path(temporary) / "model")
        try:
            hub.create_repo(repo_id, private=private, exist_ok=True)
            done = hub.upload_folder(
                repo_id=repo_id, folder_path=saved, commit_message="Model of a finished run"
            )
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
            reason = one_line(error)
            raise UserError(
                f"{repo_id} should be a repository of the hub that you may write to. Found: "
                f"{reason[:200]}. Correct the id, or log in with: hf auth login"
            ) from None
    return str(done)
