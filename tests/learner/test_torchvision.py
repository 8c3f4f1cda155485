"""A torchvision that does not fit the torch breaks no import that comes after dao.learner."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the real one does where its compiled part is missing; `transforms` is what torchmetrics, and
# so Lightning, takes from it because its distribution is there.
MISFIT = """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, threshold: dets)
from torchvision import transforms
"""
UNCOMPILED = "raise OSError('libtorch_cuda.so: cannot open shared object file')"
OTHER = "raise RuntimeError('operator torchvision::roi_align does not exist')"
SETTLED = "import dao.learner, importlib.util as u; print(u.find_spec('torchvision') is not None)"


def python(code: str, place: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(part) for part in (place, ROOT) if part)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def fake(place: Path, content: str) -> Path:
    (place / "torchvision").mkdir()
    (place / "torchvision" / "__init__.py").write_text(content)
    (place / "torchvision" / "transforms.py").write_text("")
    return place


@pytest.mark.slow
def test_one_whose_operators_are_missing_is_importable(tmp_path: Path):
    place = fake(tmp_path, MISFIT)
    alone = python("import torchvision", place)
    assert "operator torchvision::nms does not exist" in alone.stderr
    code = f"{SETTLED}\nfrom torchvision import transforms\nimport torchvision\n"
    done = python(code + "print(torchvision.__spec__.name)", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "torchvision"]


@pytest.mark.parametrize("content", [UNCOMPILED, OTHER])
def test_one_that_does_not_load_is_absent(tmp_path: Path, content: str):
    done = python(SETTLED, fake(tmp_path, content))
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr


def test_the_installed_one_serves_all_that_import_it():
    try:
        version("torchvision")
    except PackageNotFoundError:
        pytest.skip("no torchvision here")
    # `tests/conftest.py` imports `dao.learner` before any of them.
    import peft
    import torchvision.ops
    from torchvision import transforms
    from transformers import AutoModel

    assert all((peft.LoraConfig, torchvision.ops.nms, transforms.Compose, AutoModel))
