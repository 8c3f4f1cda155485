import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import tasks

MODULES = [module.name for module in pkgutil.walk_packages(tasks.__path__, "tasks.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_file_is_among_them():
    root = Path(tasks.__path__[0])
    files = {path.relative_to(root.parent) for path in root.rglob("*.py")}
    paths = {".".join(path.with_suffix("").parts) for path in files}
    assert {name.removesuffix(".__init__") for name in paths} == {*MODULES, "tasks"}
