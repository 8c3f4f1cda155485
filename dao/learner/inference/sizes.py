"""The size of a finished run's model on the disk."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from dao.learner.encoder.find import locate
from dao.learner.storage.record import RunFolder

__all__ = ["disk_bytes"]

WEIGHTS = (".safetensors", ".bin")


def disk_bytes(folder: RunFolder) -> int:
    """Bytes of all weights that the model is loaded from, those of a frozen encoder included."""
    own = [folder.path / name for name in folder.model_digests()]
    if folder.config().encoder.tune == "lora" and not (folder.path / "base").is_dir():
        own += _encoder_files(folder.config().encoder.name)
    return sum(file.stat().st_size for file in own if file.suffix in WEIGHTS)


def _encoder_files(name: str) -> list[Path]:
    location = locate(name)
    path = location.path
    if location.origin == "hub":
        path = snapshot_download(path, local_files_only=True)  # loaded before, so it is there
    found = list(Path(path).iterdir())
    # Many hub models have their weights in both forms, of which this one is loaded.
    safe = [file for file in found if file.suffix == ".safetensors"]
    return safe or found
