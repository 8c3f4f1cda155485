"""The versions, the machine and the revision that a run's figures depend on."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

import dao

__all__ = ["package_version", "provenance", "revision"]

ROOT = Path(__file__).parents[3]
PACKAGES = ("torch", "transformers", "peft", "perforatedai", "bitsandbytes", "scikit-learn")


@cache
def package_version(name: str) -> str | None:
    """The version of an installed package; None where there is none. Read once per process."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions of packages, the machine and the revision, for metrics.json."""
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {package: package_version(package) for package in PACKAGES},
        "device": cuda or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "git": _git_state(ROOT),
    }


def revision() -> tuple[str, bool | None]:
    """Commit of the project's own checkout, and whether there are changes beside it.

    Of an installed copy it is the version, and None.
    """
    state = _git_state(ROOT)
    return (state["commit"], state["dirty"]) if state else (f"version {dao.__version__}", None)


def _git_state(root: Path) -> dict[str, Any] | None:
    """Commit and state of the checkout that this package lies in; None for an installed copy."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
