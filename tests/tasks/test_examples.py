import doctest
import importlib
import pkgutil

import pytest

import tasks


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(tasks.__path__)])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"tasks.{name}")).failed == 0
