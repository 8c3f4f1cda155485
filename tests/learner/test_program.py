"""What messages tell a person to type: the repository's scripts where one runs, else `dao`."""

import subprocess
import sys
from pathlib import Path

import pytest

from dao.learner.basics.program import command, install, on_several_processes

ROOT = Path(__file__).parents[2]
UNKNOWN = ("--dry-run", "no.such.setting.at.all=1")


@pytest.fixture(params=["train.py", "evaluate.py"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [request.param])


def test_a_script_speaks_of_the_scripts(script: None):
    assert command("train") == "python train.py"
    assert command("evaluate") == command("predict") == "python evaluate.py"
    assert command("compare") == "python evaluate.py compare"
    assert on_several_processes("train") == "torchrun --nproc-per-node N train.py"


@pytest.mark.parametrize(
    "started", ["/usr/bin/dao", str(ROOT / "dao" / "__main__.py"), "-c", "", "/mine/train.py"]
)
def test_all_else_speaks_of_the_installed_command(started: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert command("train") == "dao train"
    assert command("predict") == "dao predict"
    assert command("compare") == "dao compare"
    assert on_several_processes("train") == "torchrun --nproc-per-node N -m dao train"


@pytest.mark.parametrize(
    ("start", "told"),
    [(["train.py"], "python train.py"), (["-m", "dao", "train"], "dao train")],
)
def test_a_message_names_the_program_that_was_started(
    warm_python: str, start: list[str], told: str
):
    done = subprocess.run([warm_python, *start, *UNKNOWN], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.split() == (
        f"error: `no` is not a setting, nor a task here: --tasks names tasks. "
        f"`{told} --dry-run` prints them all.".split()
    )


def test_the_repository_installs_its_extras_with_the_tested_versions():
    assert install("onnx") == 'pip install -c constraints.txt -e ".[onnx]"'


def test_an_installed_package_has_its_extras_by_name(tmp_path: Path):
    (tmp_path / "dao").mkdir()
    (tmp_path / "pyproject.toml").touch()  # of another project, above its copy of the package
    assert install("learner,dendrites", tmp_path) == 'pip install "dao[learner,dendrites]"'
