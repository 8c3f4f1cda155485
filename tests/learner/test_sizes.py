"""Bytes of a model on the disk, counted by hand."""

from pathlib import Path

import pytest

from dao.learner.inference.sizes import disk_bytes
from dao.learner.settings.config import load_config
from dao.learner.storage.record import RunFolder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"model.safetensors": 300, "pytorch_model.bin": 301}, 300),
        ({"pytorch_model-00001.bin": 200, "pytorch_model-00002.bin": 101}, 301),
        ({"model-00001.safetensors": 200, "model-00002.safetensors": 100, "config.json": 9}, 300),
    ],
)
def test_an_encoder_counts_in_the_form_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, int], expected: int
):
    encoder = tmp_path / "encoder"
    run = tmp_path / "run"
    for folder in (encoder, run):
        folder.mkdir()
    for name, size in files.items():
        (encoder / name).write_bytes(bytes(size))
    (run / "heads.safetensors").write_bytes(bytes(7))
    (run / "config.yaml").write_text(load_config(None, [f"encoder.name={encoder}"]).to_yaml())
    monkeypatch.setattr(RunFolder, "model_digests", lambda self: {"heads.safetensors": "x"})
    assert disk_bytes(RunFolder(run)) == 7 + expected
