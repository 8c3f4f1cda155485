"""The console script `dao`: it needs the standard library, and says so if the learner is missing.

The extra `learner` brings the packages of the commands; `pip install dao` alone is the loss.
"""

import importlib
import sys

__all__ = ["main", "without_torchvision"]


def without_torchvision() -> None:
    """Declare torchvision absent in this process, which works with texts alone.

    perforatedai requires torchvision; its import takes seconds, and transformers would import it.
    A process that has imported it keeps it.
    """
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]


def main() -> None:
    """Run the command line of `dao.learner.commands.app`.

    Raises:
        SystemExit: with the exit code; 1 where a package of the learner is missing.
    """
    without_torchvision()
    try:
        importlib.import_module("dao.learner.commands.app").main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "dao":
            raise
        sys.exit(
            f"error: The command dao needs the packages of the learner. Found no `{error.name}`. "
            f"Run: pip install 'dao[learner]'"
        )
