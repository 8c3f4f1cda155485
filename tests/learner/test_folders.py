"""What is given for an encoder: full paths, adapters and runs in place of models, hub ids."""

import json
from pathlib import Path

import pytest

from dao.errors import UserError
from dao.learner.basics.folders import absolute
from dao.learner.encoder.find import hub_id, locate
from dao.learner.experiment.findings import comparable
from dao.learner.settings.config import load_config


def test_a_folder_is_kept_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "./plain", "../" + tmp_path.name + "/plain", str(tmp_path / "plain")):
        assert load_config(flags={"encoder.name": name}).encoder.name == str(tmp_path / "plain")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("~/plain") == str(tmp_path / "plain")
    assert load_config().encoder.name == "all-MiniLM-L6-v2"
    assert absolute("microsoft/phi-2") == "microsoft/phi-2"
    assert absolute("./gone") == "./gone"


def test_a_folder_that_is_gone_names_the_flags():
    with pytest.raises(UserError, match=r"--encoder FOLDER of dao train, encoder\.name=FOLDER of"):
        locate("/gone/plain")


def adapter(folder: Path, base: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


def test_an_adapter_is_told_from_a_model(tmp_path: Path):
    folder = adapter(tmp_path / "run" / "adapter", "owner/base")
    expected = r"should be a whole model\. Found in .*adapter an adapter of owner/base\. Give --enc"
    with pytest.raises(UserError, match=expected):
        locate(str(folder))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"of a model that it does not name\. Give --encoder MODEL"):
        locate(str(folder))
    (folder / "config.json").write_text("{}")  # a model with an adapter of its own
    assert locate(str(folder)).origin == "folder"


def test_an_adapter_of_a_model_made_in_its_run_names_that_folder(tmp_path: Path):
    folder = adapter(tmp_path / "run" / "adapter", "base")
    (tmp_path / "run" / "base").mkdir()
    with pytest.raises(UserError, match=rf"Give --encoder {tmp_path}/run/base; "):
        locate(str(folder))


def test_a_run_is_told_from_a_model(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(
        UserError, match=r"Found the run folder .*\. Give --encoder MODEL, of which"
    ):
        locate(str(tmp_path))
    (tmp_path / "encoder").mkdir()
    with pytest.raises(UserError, match=rf"Give --encoder {tmp_path}/encoder; the run itself"):
        locate(str(tmp_path))


def test_the_embedded_encoder_has_its_name_on_the_hub(tmp_path, monkeypatch: pytest.MonkeyPatch):
    assert hub_id("all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert hub_id("microsoft/phi-2") == "microsoft/phi-2"
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub_id("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_two_spellings_of_one_folder_are_one_encoder(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    loaded = [
        comparable._loaded({"name": name, "origin": "folder", "revision": None})
        for name in ("./plain", str(tmp_path / "plain"))
    ]
    assert loaded[0] == loaded[1]
    hub = {"name": "plain", "origin": "hub", "revision": "1"}
    assert comparable._loaded(hub) == hub
