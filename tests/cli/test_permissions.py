"""Everything that a run writes has the permissions of the umask."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from dao.learner.storage.files import replace_folder, share, write_atomically, write_tensors


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def mode(request: pytest.FixtureRequest):
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def odd(folder: Path, mode: int) -> dict[str, str]:
    """Files of other permissions, by path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {str(path): stat.S_IMODE(path.stat().st_mode) for path in files}
    return {path: oct(had) for path, had in found.items() if had != mode}


def test_weights_are_written_for_those_whom_the_umask_lets(tmp_path: Path, mode: int):
    write_tensors(tmp_path / "heads.safetensors", {"w": torch.ones(2)})
    write_atomically(tmp_path / "text", "text")

    def fill(place: Path) -> None:
        (place / "inner").mkdir()
        save_file({"w": torch.ones(2)}, place / "inner" / "w.safetensors")

    replace_folder(tmp_path / "folder", fill)
    assert odd(tmp_path, mode) == {}
    assert not list(tmp_path.rglob("*.partial"))


def test_the_umask_is_asked_without_changing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch(0o600)
    monkeypatch.setattr(os, "umask", None)
    share(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            ("--dao", "--dendrites", "dendrites.graph=false", "train.keep_checkpoint=true"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("encoder.tune=full",), marks=pytest.mark.slow),
        pytest.param(
            ("encoder.lora.last_layers=1", "encoder.prefix_cache=true"), marks=pytest.mark.slow
        ),
    ],
    ids=["dendrites", "full", "prefix"],
)
def test_a_finished_run_and_its_cache(
    tiny_bert: Path, tiny_csv: Path, tmp_path: Path, settings: tuple[str, ...]
):
    from train import app

    before = os.umask(0o002)
    try:
        output, cache = tmp_path / "run", tmp_path / "cache"
        fixed = ("--encoder", tiny_bert, "--data", tiny_csv, "--output", output, f"cache={cache}")
        short = (
            "encoder.precision=fp32",
            "train.page=false",
            "train.epochs=1",
            "train.checkpoint_every=2",
        )
        arguments = [str(part) for part in (*fixed, *short, *settings)]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    assert odd(output, 0o664) == {}
    assert odd(cache, 0o664) == {}
