"""Every configuration runs, and every command of the README is one that exists."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_trains(train, path: Path, tmp_path: Path):
    small = ["train.epochs=1", "encoder.max_length=32"]  # and the tiny encoder for theirs
    result = train(tmp_path / "run", "--config", str(path), *small)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "metrics.json").exists()


def commands() -> list[str]:
    blocks = re.findall(r"```(?:bash|console)\n(.*?)```", README, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("python ")]


def test_the_readme_has_commands():
    assert len(commands()) >= 6


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_is_understood(command: str, full_run: Path, tiny_csv: Path):
    """Commands run as written, on what exists here: training as --dry-run, evaluation for real."""
    program, *arguments = shlex.split(command, comments=True)[1:]
    replaced = {"my.csv": str(tiny_csv), "RUN": str(full_run), "new.csv": str(tiny_csv)}
    arguments = [replaced.get(a, a) for a in arguments]
    if program == "train.py":
        from train import app

        extra = [] if "--resume" in arguments else ["--dry-run"]
    else:
        from evaluate import app

        assert program == "evaluate.py"
        extra = []
    result = CliRunner().invoke(app, [*arguments, *extra])
    assert result.exit_code in (0, 1), result.output
    if result.exit_code == 1:  # a file or a run that only the reader has
        assert "error: " in result.stderr
        assert "should" in result.stderr


def test_the_readme_gives_the_two_set_up_commands():
    for command in (
        'pip install -c constraints.txt -e ".[learner,dendrites]" && '
        "python train.py --tasks cls,reg --dao --dendrites",
        'pip install -c constraints.txt -e ".[dev]" && pytest',
    ):
        assert command in README
