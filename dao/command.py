"""The console script `dao`: it needs the standard library, and says so if the learner is missing.

The extra `learner` brings the packages of the commands; `pip install dao` alone is the loss.
"""

import importlib
import sys

__all__ = ["main", "without"]


def without(package: str) -> None:
    """Declare a package absent that this process does not need, and others would import.

    A process that has imported it keeps it.

    Args:
        package: its name. torchvision, which transformers imports where perforatedai has brought
            it, takes seconds, and texts do not need it.
    """
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]


def main() -> None:
    """Run the command line of `dao.learner.commands.app`.

    Raises:
        SystemExit: with the exit code; 1 where a package of the learner is missing.
    """
    without("torchvision")
    try:
        importlib.import_module("dao.learner.commands.app").main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "dao":
            raise
        sys.exit(
            f"error: The command dao needs the packages of the learner. Found no `{error.name}`. "
            f"Run: pip install 'dao[learner]'"
        )
