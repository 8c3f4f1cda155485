import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

# Refuses every import that is neither the standard library, nor torch and what torch itself needs,
# nor `dao` outside its learner.
BLOCKER = """
import sys

NEEDED_BY_TORCH = {
    "torch", "torchgen", "functorch", "numpy", "typing_extensions", "sympy", "networkx", "jinja2",
    "filelock", "fsspec", "mpmath", "markupsafe", "setuptools",
}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if name.startswith("dao.learner"):
            raise ModuleNotFoundError(f"blocked: {name}")
        if top.startswith("_sysconfigdata"):  # of the standard library, named after the platform
            return
        if top != "dao" and top not in sys.stdlib_module_names | NEEDED_BY_TORCH:
            raise ModuleNotFoundError(f"blocked: {name}")


sys.meta_path.insert(0, Blocker())
"""

STEP = """
import torch
from dao import DAOLoss

shared = torch.nn.Linear(2, 2)
balance = DAOLoss(["a", "b"], params=shared.parameters())
z = shared(torch.ones(1, 2))
balance({"a": z.sum(), "b": z.square().sum()}).backward()
assert shared.weight.grad is not None
assert set(balance.telemetry()) == {"a", "b"}
assert "torch._dynamo" not in sys.modules  # would double the time of the import
from dao import DAOHistory

history = DAOHistory(balance)
history.record()
assert [row["task"] for row in history.rows()] == ["a", "b"]
print("stepped")
"""
LATE = """
import torch
from dao import DAOHistory, DAOLoss

history = DAOHistory(DAOLoss(["a"], params=torch.nn.Linear(1, 1).parameters()))
for method in (history.to_frame, history.plot):
    try:
        method()
    except ValueError as error:
        print(error)
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], cwd=ROOT, capture_output=True, text=True
    )


def test_dao_needs_torch_and_nothing_else():
    done = run(STEP)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "stepped\n"


@pytest.mark.parametrize("name", ["pytest", "transformers", "tasks", "dao.learner"])
def test_the_blocker_blocks(name):
    done = run(f"import {name}")
    assert done.returncode == 1
    assert f"blocked: {name}" in done.stderr


def test_a_package_that_a_history_wants_on_request_is_named():
    done = run(LATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"DAOHistory.{method} should find {package}. Found it not installed. Run: pip install "
        f"{package}"
        for method, package in (("to_frame", "pandas"), ("plot", "matplotlib"))
    ]
