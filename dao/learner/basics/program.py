"""What a person types to start a command, with the scripts of the repository or with `dao`."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command", "on_several_processes"]

ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds the package `dao`: the repository, or site-packages."""
SCRIPTS = {
    "train": "train.py",
    "evaluate": "evaluate.py",
    "predict": "evaluate.py",
    "compare": "evaluate.py compare",
}
"""Command -> the script of the repository that does the same."""


def command(name: str) -> str:
    """The words that start a command, for messages: of the script in use, else of `dao`.

    Args:
        name: a command of `SCRIPTS`.

    Example:
        >>> command("train")
        'dao train'
    """
    return f"python {SCRIPTS[name]}" if _is_script(sys.argv[0]) else f"dao {name}"


def on_several_processes(name: str) -> str:
    """The words that start a command under torchrun.

    Args:
        name: a command of `SCRIPTS`.

    Example:
        >>> on_several_processes("train")
        'torchrun --nproc-per-node N -m dao train'
    """
    started = SCRIPTS[name] if _is_script(sys.argv[0]) else f"-m dao {name}"
    return f"torchrun --nproc-per-node N {started}"


def _is_script(started: str) -> bool:
    """Whether this is a script of the repository, and not one of the same name elsewhere."""
    path = Path(started).resolve()
    return path.parent == ROOT and path.name in SCRIPTS.values()
