"""What a person types, in the repository or with the installed package: a command, an extra."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command", "install", "on_several_processes"]

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


def install(extras: str, root: Path = ROOT) -> str:
    """The words that install extras: of the repository with its tested versions, else by name.

    Args:
        extras: their names, with commas between them.
        root: the folder that holds the package `dao`.

    Example:
        >>> install("onnx", Path("/site-packages"))
        'pip install "dao[onnx]"'
    """
    if all((root / name).is_file() for name in ("pyproject.toml", "constraints.txt")):
        return f'pip install -c constraints.txt -e ".[{extras}]"'
    return f'pip install "dao[{extras}]"'


def _is_script(started: str) -> bool:
    """Whether this is a script of the repository, and not one of the same name elsewhere."""
    path = Path(started).resolve()
    return path.parent == ROOT and path.name in SCRIPTS.values()
