"""A finished run as a model: loaded, put to use, saved, pushed to a hub and loaded from there."""

import csv
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from dao import UserError
from dao.learner import Model, load
from dao.learner.basics.spreadsheets import unguarded

TEXTS = ["sales fell", "net profit rose sharply", "the company said costs widened"]


@pytest.fixture(scope="module")
def model(full_run: Path) -> Model:
    return load(full_run, device="cpu")


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name] == (pytest.approx(other[name], abs=1e-5) if isinstance(one[name], float)
                      else other[name])
        for name in one
    )  # fmt: skip


def test_predictions_are_those_the_run_was_tested_with(model: Model, full_run: Path):
    with open(full_run / "predictions.csv", newline="") as file:
        tested = list(csv.DictReader(file))
    found = model.predict([unguarded(row["text"]) for row in tested])
    assert [*found[0]] == ["cls", "cls_p_negative", "cls_p_positive", "reg"]
    for row, before in zip(found, tested, strict=True):
        assert row["cls"] == before["cls"]
        assert row["cls_p_negative"] == pytest.approx(float(before["cls_p_negative"]), abs=1e-5)
        assert row["reg"] == pytest.approx(float(before["reg"]), abs=1e-5)


def test_any_number_of_texts_in_their_order_and_read_as_needed(model: Model):
    read = []

    def texts():
        for number in range(50):
            read.append(number)
            yield TEXTS[number % 3]

    rows = model.predict_iter(texts(), chunk=4)
    first = next(rows)
    assert len(read) == 4
    found = [first, *rows]
    assert len(found) == 50
    alone = model.predict(TEXTS)
    assert all(close(row, alone[number % 3]) for number, row in enumerate(found))
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("sales fell", "a list of texts. Found one text"),
        (["sales fell", " "], "Found ' ', input 2"),
        ([("a", "b")], "should be a text"),
        ([5], "should be a text"),
    ],
)
def test_what_is_no_text_is_refused(model: Model, texts: Any, said: str):
    with pytest.raises(UserError, match=said):
        model.predict(texts)


def test_a_saved_model_is_whole_and_no_more(model: Model, full_run: Path, tmp_path: Path):
    saved = model.save(tmp_path / "deep" / "model")
    names = {path.name for path in saved.iterdir()}
    assert {"README.md", "config.yaml", "tasks.json", "metrics.json", "tokenizer"} <= names
    assert not names & {"checkpoints", "history.jsonl", "validation.jsonl", "predictions.csv",
                        "PAI", "stages"}  # fmt: skip
    config = (saved / "config.yaml").read_text()
    assert str(full_run) not in config  # where it was made is nothing of the model
    assert load(saved, device="cpu").predict(TEXTS) == model.predict(TEXTS)
    with pytest.raises(UserError, match=r"new folder\. Found other files at"):
        model.save(saved)


class Hub:
    """A folder that stands in for the hub: OWNER/NAME/ holds what was pushed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.fetched: list[Any] = []

    def __call__(self, token: str | None = None) -> "Hub":
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        (self.place / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        shutil.copytree(folder_path, self.place / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: Any) -> str:
        if not (self.place / repo_id).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("no such repository")
        self.fetched.append(allow_patterns)
        return str(self.place / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_a_model_goes_to_the_hub_and_comes_back(model: Model, hub: Hub):
    assert model.push_to_hub("me/model") == "https://hub/me/model/commit/1"
    card = (hub.place / "me" / "model" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "from dao.learner import load" in card
    assert load("me/model", device="cpu").predict(TEXTS) == model.predict(TEXTS)
    (patterns,) = hub.fetched
    assert not any(name.endswith((".py", ".bin", ".pt", ".pkl", "*")) and "/" not in name
                   for name in patterns)  # fmt: skip


@pytest.mark.usefixtures("hub")
def test_what_the_hub_has_not_is_said_in_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"me/none should be a run folder or a repository") as error:
        load("me/none")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"A run folder should hold config\.yaml"):
        load(tmp_path / "none")


def test_a_refused_push_is_said_in_one_line(
    model: Model, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("401\nnobody may write there")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(UserError, match="Found: 401 nobody may write there") as error:
        model.push_to_hub("me/model")
    assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["BOMB"],)


def test_loading_executes_nothing(full_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    copy = shutil.copytree(full_run, tmp_path / "run")
    for name in ("adapter/adapter_model.bin", "pytorch_model.bin", "heads.pt"):
        (copy / name).write_bytes(pickle.dumps(Bomb()))
    (copy / "tokenizer" / "custom.py").write_text(f"import os; os.mkdir({str(tmp_path / 'x')!r})")
    settings = json.loads((copy / "tokenizer" / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["custom.Tokenizer", None]}
    (copy / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    metrics = json.loads((copy / "metrics.json").read_text())
    del metrics["files"]  # else an added file is refused before anything is read
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert load(copy, device="cpu").predict(TEXTS)
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "x").exists()


def test_a_changed_file_is_refused(full_run: Path, tmp_path: Path):
    copy = shutil.copytree(full_run, tmp_path / "run")
    (copy / "tasks.json").write_text((copy / "tasks.json").read_text() + "\n")
    with pytest.raises(UserError, match="should be those it was tested with"):
        load(copy)
