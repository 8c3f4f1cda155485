"""What all benchmarks have in common."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "if __name__" in path.read_text() and path.name != "clock.py"
)


def test_all_are_found():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_a_quick_form(name: str):
    assert "quick" in inspect.signature(importlib.import_module(name).main).parameters


@pytest.mark.parametrize("name", COMMANDS)
def test_each_computes_as_a_run_does_unless_told_otherwise(name: str):
    given = inspect.signature(importlib.import_module(name).main).parameters
    assert "precision" not in given or given["precision"].default == "auto"
