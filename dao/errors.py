"""The one exception that stands for bad input rather than a bug."""

__all__ = ["UserError"]


class UserError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the thing by its name, what was found, and what to do. The command
    line prints it and exits with 1; any other exception keeps its traceback, because it is a bug.
    """
