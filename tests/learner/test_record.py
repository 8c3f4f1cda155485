"""A run folder: who may have it, what is written and by whom, what is read."""

import inspect
import math
from pathlib import Path

import pytest
import torch

from dao.errors import UserError
from dao.learner.settings.config import Config
from dao.learner.storage import claiming
from dao.learner.storage.files import remove
from dao.learner.storage.provenance import provenance
from dao.learner.storage.record import RunFolder
from dao.learner.storage.writing import OwnedRecord, RunRecord, SilentRecord


def claimed(path: Path) -> OwnedRecord:
    folder = OwnedRecord(path)
    folder.create(Config(), overwrite=False)
    return folder


def test_a_new_folder_is_claimed_with_the_settings_alone(tmp_path: Path):
    folder = claimed(tmp_path / "a" / "run")
    assert [path.name for path in folder.path.iterdir()] == ["config.yaml"]
    assert folder.config() == Config()
    assert not folder.started
    assert not folder.finished
    claimed(folder.path)  # nothing has trained here


def test_a_run_that_trained_is_replaced_only_when_asked(tmp_path: Path):
    folder = claimed(tmp_path / "run")
    folder.append("history.jsonl", {"step": 1})
    with pytest.raises(UserError, match=r"Found an unfinished run in .* continue it with --resume"):
        claimed(folder.path)
    folder.write("metrics.json", {})
    with pytest.raises(UserError, match=r"Found a finished run in .*: replace it with --overwrite"):
        claimed(folder.path)
    folder.create(Config(), overwrite=True)
    assert [path.name for path in folder.path.iterdir()] == ["config.yaml"]


def test_files_of_others_are_never_replaced(tmp_path: Path):
    folder = claimed(tmp_path / "run")
    (folder.path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="Found other files at"):
            folder.create(Config(), overwrite=overwrite)
    assert (folder.path / "thesis.tex").read_text() == "years of work"


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_one_process_at_a_time(tmp_path: Path):
    second = pytest.raises(UserError, match="Found another at work")
    with claiming.locked(tmp_path), second, claiming.locked(tmp_path):
        pass
    with claiming.locked(tmp_path):
        pass


def test_rows_are_appended_rewound_and_counted(tmp_path: Path):
    folder = claimed(tmp_path / "run")
    for step in (1, 2, 3):
        folder.append("history.jsonl", {"step": step, "loss": math.nan, "more": {"x": math.inf}})
    folder.rewind(2)
    assert folder.rows("history.jsonl") == [
        {"step": step, "loss": None, "more": {"x": None}} for step in (1, 2)
    ]
    assert (folder.count("history.jsonl"), folder.count("skipped.jsonl")) == (2, 0)


def writes() -> dict[str, tuple[object, ...]]:
    """Every way to change a folder, with arguments."""
    return {
        "create": (Config(),), "write": ("data.json", {}), "append": ("history.jsonl", {}),
        "rewind": (0,), "save_checkpoint": ({"step": 1}, {"model": {"w": torch.zeros(1)}}, {}),
        "put_back": ([Path("PAI")],), "remove_checkpoints": (), "remove_stage_weights": (),
    }  # fmt: skip


def test_a_silent_record_reads_and_leaves_everything_as_it_is(tmp_path: Path):
    owned = claimed(tmp_path / "run")
    owned.append("history.jsonl", {"step": 1})
    owned.save_checkpoint({"step": 1}, {"model": {"w": torch.zeros(1)}}, {})
    before = {path: path.is_file() and path.read_bytes() for path in owned.path.rglob("*")}
    silent = SilentRecord(owned.path)
    with owned.locked(), silent.locked():
        for name, arguments in writes().items():
            getattr(silent, name)(*arguments, **({"overwrite": True} if name == "create" else {}))
    after = {path: path.is_file() and path.read_bytes() for path in owned.path.rglob("*")}
    assert after == before
    assert silent.rows("history.jsonl") == [{"step": 1}]
    assert silent.latest_checkpoint() == owned.latest_checkpoint()
    assert isinstance(silent.stage("news"), SilentRecord)
    assert isinstance(owned.stage("news"), OwnedRecord)


def own_methods(kind: type) -> set[str]:
    return {name for name, found in vars(kind).items() if inspect.isfunction(found)}


def test_no_way_to_write_can_forget_the_silent_ranks():
    assert RunRecord.__abstractmethods__ == {*writes(), "locked"}
    assert own_methods(OwnedRecord) == own_methods(SilentRecord) == {*writes(), "locked"}

    class Forgetful(RunRecord):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Forgetful(Path())  # type: ignore[abstract]


def test_what_is_no_run_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"should hold config\.yaml"):
        RunFolder(tmp_path).config()
    (tmp_path / "metrics.json").write_text("[1]")
    with pytest.raises(UserError, match=r"should hold metrics\.json"):
        RunFolder(tmp_path).read("metrics.json")


def test_a_file_that_changed_after_the_test_is_named(tmp_path: Path):
    folder = claimed(tmp_path / "run")
    (folder.path / "heads.safetensors").write_bytes(b"as tested")
    folder.write("metrics.json", {"files": folder.model_digests()})
    folder.check_unchanged()
    (folder.path / "heads.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match=r"no such file: heads\.safetensors in"):
        folder.check_unchanged()


def test_the_provenance_names_the_commit_of_this_checkout():
    found = provenance(torch.device("cpu"))
    root = Path(__file__).parents[2]
    assert (found["git"] is not None) == (root / ".git").exists()
    assert found["packages"]["torch"]
