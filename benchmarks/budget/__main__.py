"""Where the seconds of a command go: start of Python, imports, data, tokens, steps, and so on.

python -m benchmarks.budget                       # training and prediction as in the README
python -m benchmarks.budget --quick               # the same on few rows
python -m benchmarks.budget -- train.py --tasks cls --data my.csv

Each command runs as a process of its own, from the start of Python to its end. A second belongs to
one phase: to the innermost one that is open. `other` is what no phase claims, and `clock` is what
the measurement itself takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.budget.clock import PHASES
from dao.errors import UserError
from dao.learner.basics.tables import titled
from dao.learner.console.errors import user_errors
from dao.learner.console.terminal import plain_console

ROOT = Path(__file__).parents[2]
CLOCK = Path(__file__).with_name("clock.py")
TEXT = "Net loss narrowed in the third quarter"
ORDER = ("start of Python", "imports", *PHASES, "other", "clock", "end of Python")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    command: Annotated[
        list[str] | None, typer.Argument(help="MODULE or FILE.py, and its arguments.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few rows and steps: under two minutes.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Run the commands, and print a table of where their seconds went."""
    with user_errors(), TemporaryDirectory() as folder:
        found = {}
        for name, words in _commands(command, Path(folder), quick=quick).items():
            found[name] = measure(words, Path(folder) / "seconds.json")
            _print(name, found[name])
        if output:
            output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _commands(given: list[str] | None, folder: Path, *, quick: bool) -> dict[str, list[str]]:
    if given:
        return {" ".join(given): given}
    run = str(folder / "run")
    small = ["--config", "configs/quick.yaml"] if quick else []
    train = ["train.py", "--tasks", "cls,reg", "--dao", "--dendrites", *small]
    return {
        "train": [*train, "--output", run],
        "predict": ["dao", "predict", run, "--text", TEXT],
    }


def measure(words: list[str], file: Path) -> dict[str, float]:
    """Seconds per phase of a command, as a process of its own.

    Args:
        words: a module, or a file that ends in .py, and its arguments.
        file: that the process writes into.

    Raises:
        UserError: the command failed.
    """
    started = time.time()
    child = [sys.executable, str(CLOCK), str(file), str(started)]
    done = subprocess.run([*child, *words], cwd=ROOT)
    ended = time.time()
    if done.returncode:
        raise UserError(f"The command should succeed. Found exit code {done.returncode}.")
    seconds: dict[str, float] = json.loads(file.read_text())
    return {**seconds, "end of Python": ended - started - sum(seconds.values())}


def _print(name: str, seconds: dict[str, float]) -> None:
    whole = sum(seconds.values())
    table = titled(f"{name}: {whole:.1f} s", ("phase", "seconds", "share"))
    for phase in ORDER:
        if seconds.get(phase, 0.0) >= 0.05:
            table.add_row(phase, f"{seconds[phase]:.1f}", f"{seconds[phase] / whole:.1%}")
    console = plain_console()
    console.print(table)
    if "steps" in seconds:
        outside = 1 - seconds["steps"] / whole
        console.print(f"outside of the training steps: {outside:.1%}", highlight=False)


if __name__ == "__main__":
    app()
