"""Bad input as one line on stderr, and the exit codes of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import typer
from rich.text import Text
from safetensors import SafetensorError

from dao.errors import UserError
from dao.learner.basics.program import command
from dao.learner.basics.wording import one_line
from dao.learner.console.terminal import plain_console, printable, styled
from dao.learner.dendrites.perforated import DendriteError

__all__ = ["user_errors"]

OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn bad input, or dendrites that came to nothing, into one line on stderr and exit code 1.

    Any other exception is a bug and keeps its traceback.
    """
    console = plain_console(stderr=True, soft_wrap=True)
    try:
        yield
    except BrokenPipeError:
        raise  # who reads the output has enough of it; typer ends the process
    except (UserError, DendriteError, OSError, SafetensorError, RuntimeError, MemoryError) as error:
        message = _explain(error)
        if message is None:
            raise
        line = Text.assemble(styled("error:", "bold red"), f" {printable(message)}")
        console.print(line, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stop:
        how = str(stop) or f"{command('train')} --resume continues a run that has a checkpoint"
        console.print(f"stopped; {how}", highlight=False)
        raise typer.Exit(130) from None


def _explain(error: Exception) -> str | None:
    """One line for an error that is not a bug; None for one that is."""
    message = one_line(error)
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f" {error.filename}"
        return f"The system refused{place}: {error.strerror}. Look at permissions and space."
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in message for words in OUT_OF_MEMORY)
    ):
        return (
            f"The memory should be enough. Found it exhausted: {message[:120] or 'MemoryError'}. "
            f"Lower train.batch_size (and raise train.accumulate) or encoder.max_length, set "
            f"encoder.gradient_checkpointing=true, or quantise with --quantize nf4; then start "
            f"again with --overwrite."
        )
    known = isinstance(error, UserError | DendriteError | OSError | SafetensorError)
    return message if known else None
