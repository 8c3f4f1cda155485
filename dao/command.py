"""The console script `dao`: it needs the standard library, and says so if the learner is missing.

The extra `learner` brings the packages of the commands; `pip install dao` alone is the loss.
"""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["alone", "main", "spare", "uncollected", "without"]


def without(package: str) -> None:
    """Declare a package absent that this process does not need, and others would import.

    A process that has imported it keeps it.

    Args:
        package: its name. torchvision, which transformers imports where perforatedai has brought
            it, takes seconds, and texts do not need it.
    """
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]


def alone() -> None:
    """Say that this process is one command and nothing else, which may then `spare` packages."""
    _Process.alone = True


def spare(package: str) -> None:
    """Declare a package absent that this command does not need, in a process of its own.

    In a process that may go on to other work, the package stays.

    Args:
        package: its name. bitsandbytes, which peft imports where it is installed, takes a second
            and a half, and only encoders in 4 or 8 bits need it.
    """
    if _Process.alone:
        without(package)


class _Process:
    alone = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Import packages and load a model without searching for garbage meanwhile.

    Python searches all objects again and again as they become more. Of the hundreds of thousands
    that torch and transformers make, none is garbage: a sixth of the time of one prediction.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> None:
    """Run the command line of `dao.learner.commands.app`.

    Raises:
        SystemExit: with the exit code; 1 where a package of the learner is missing.
    """
    alone()
    without("torchvision")
    try:
        importlib.import_module("dao.learner.commands.app").main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "dao":
            raise
        sys.exit(
            f"error: The command dao needs the packages of the learner. Found no `{error.name}`. "
            f'Run: pip install "dao[learner]"'
        )
    finally:
        gc.freeze()  # the process ends: no last search for garbage, which takes half a second
