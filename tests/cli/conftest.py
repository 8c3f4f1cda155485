"""Real runs of the command line on the tiny Phi, shared by the tests that only look at them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

SMALL = (
    "encoder.precision=fp32",  # `auto` depends on the processor
    "train.epochs=2",
    "train.batch_size=10",
    "train.validations_per_epoch=2",
    "train.lr=0.01",
)
BOTH = ("--tasks", "cls,reg", "--dao", "--dendrites", "dendrites.init_scale=0.1")
NO_GRAPH = "dendrites.graph=false"  # it takes longer than the rest of a tiny run
Train = Callable[..., Result]


@pytest.fixture(scope="session")
def train(tiny_phi: Path, tiny_csv: Path) -> Train:
    """Runs train.py on the tiny Phi and the tiny table, into `output`."""
    from train import app

    def run(output: Path, *arguments: str, graph: bool = False, data: Path = tiny_csv) -> Result:
        fixed = ("--encoder", str(tiny_phi), "--data", str(data), "--output", str(output))
        settings = SMALL if graph else (*SMALL, NO_GRAPH)
        return CliRunner().invoke(app, [*fixed, *settings, *arguments], catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def full_run(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with both tasks, DAO and dendrites."""
    folder = tmp_path_factory.mktemp("runs") / "full"
    result = train(folder, *BOTH, graph=True)
    assert result.exit_code == 0, result.output
    # Else the tests of saving and reloading would say nothing about dendrites.
    assert json.loads((folder / "dendrites.json").read_text())["dendrites_kept"] == 1
    (folder.parent / "full.txt").write_text(result.stdout)
    return folder
