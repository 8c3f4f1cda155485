"""What a run folder holds is data: never executed, and refused by name when it is not right."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

TINY = (
    "--tasks",
    "reg",
    "train.page=false",
    "train.epochs=1",
    "train.batch_size=30",
    "train.checkpoint_every=1",
)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """What the payload would make."""
    place = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(place)))
    assert place.exists(), "the payload does nothing"
    place.rmdir()
    return place


@pytest.fixture(scope="module")
def broken(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its second step."""
    from dao.learner.console.report import RichProgress

    folder = tmp_path_factory.mktemp("broken") / "run"

    def stop(self: RichProgress, row: dict[str, Any], plan: object) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RichProgress, "step", stop)
        assert train(folder, *TINY).exit_code == 130
    assert [p.name for p in (folder / "checkpoints").iterdir() if p.is_dir()] == ["step=000002"]
    return folder


@pytest.fixture
def copied(broken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(broken, tmp_path / "run"))


@pytest.fixture
def finished(full_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full_run, tmp_path / "run"))


def resume(folder: Path) -> Result:
    from train import app

    return CliRunner().invoke(app, ["--resume", str(folder)], catch_exceptions=False)


def evaluate(folder: Path, *arguments: str) -> Result:
    from evaluate import app

    return CliRunner().invoke(app, [str(folder), *arguments], catch_exceptions=False)


def refused(result: Result, *fragments: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), result.stderr
    for fragment in fragments:
        assert fragment in last


def place_of(folder: Path) -> Path:
    return next((folder / "checkpoints").glob("step=*"))


def restamp(folder: Path) -> None:
    """Make the digests fit, as whoever puts a file there on purpose would."""
    from dao.learner.storage.checkpoint import stamped
    from dao.learner.storage.files import digest

    path = place_of(folder) / "state.json"
    state = json.loads(path.read_text())
    files = [p for p in path.parent.rglob("*") if p.is_file() and p != path]
    state["sha256"] = {str(p.relative_to(path.parent)): digest(p) for p in files}
    path.write_text(json.dumps(stamped(state)))


def test_the_copy_resumes_as_it_is(copied: Path):
    assert resume(copied).exit_code == 0


@pytest.mark.parametrize("how", ["torch", "plain"])
def test_a_pickle_as_optimizer_is_not_executed(copied: Path, executed: Path, how: str):
    path = place_of(copied) / "optimizer.pt"
    content = {"optimizer": Payload(executed), "weighting": {}, "random": 0, "random_cuda": []}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    restamp(copied)
    refused(resume(copied), "optimizer.pt", "should be whole")
    assert not executed.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors"])
def test_a_pickle_as_checkpoint_is_not_executed(copied: Path, executed: Path, name: str):
    (place_of(copied) / name).write_bytes(pickle.dumps(Payload(executed)))
    restamp(copied)
    refused(resume(copied), name, "cannot be read")
    assert not executed.exists()


@pytest.mark.parametrize(
    "name", ["adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors"]
)
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_as_saved_model_is_not_executed(
    finished: Path, executed: Path, name: str, kind: str
):
    content = {"weight": Payload(executed)}
    (finished / name).write_bytes(pickle.dumps(content))
    if kind == "torch":
        torch.save(content, finished / name)
        (finished / "adapter" / "adapter_model.bin").write_bytes(pickle.dumps(content))
    refused(evaluate(finished, "--text", "profit rose"), name, "cannot be read")
    assert not executed.exists()


def test_a_pickle_as_encoder_is_not_executed(train, tiny_phi: Path, tmp_path: Path, executed: Path):
    folder = Path(shutil.copytree(tiny_phi, tmp_path / "encoder"))
    (folder / "model.safetensors").unlink()
    torch.save({"embed_tokens.weight": Payload(executed)}, folder / "pytorch_model.bin")
    refused(train(tmp_path / "run", "--encoder", str(folder)), "`encoder.name`")
    assert not executed.exists()


def test_code_that_comes_with_a_model_is_not_executed(
    train, tiny_phi: Path, tmp_path: Path, executed: Path
):
    folder = Path(shutil.copytree(tiny_phi, tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    code = f"import os\nos.mkdir({str(executed)!r})\n"
    (folder / "own.py").write_text(code)
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    result = train(tmp_path / "run", "--encoder", str(folder))
    refused(result, "`encoder.name`", "needs code of its own, which is never run")
    assert not executed.exists()


@pytest.mark.slow
def test_perforatedai_gets_no_file_that_was_put_into_a_checkpoint(
    train, tmp_path: Path, executed: Path, monkeypatch: pytest.MonkeyPatch
):
    from dao.learner.console.report import RichProgress

    def stop(self: RichProgress, row: dict[str, Any], plan: object) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    # After step 4 a growth puts the weights back that were the best after step 2.
    flags = ("--dendrites", "train.batch_size=10", "train.epochs=1", "train.checkpoint_every=1",
             "train.validations_per_epoch=4")  # fmt: skip
    scores = iter((0.5, 0.4, 0.3, 0.2))
    monkeypatch.setattr("dao.learner.training.validation.selection_score", lambda *_: next(scores))
    with monkeypatch.context() as patch:
        patch.setattr(RichProgress, "step", stop)
        assert train(tmp_path / "run", "--tasks", "reg", *flags).exit_code == 130
    planted = place_of(tmp_path / "run") / "files" / "best_model.pt"
    assert planted.exists()
    planted.write_bytes(pickle.dumps(Payload(executed)))
    refused(resume(tmp_path / "run"), "files/best_model.pt", "changed")
    restamp(tmp_path / "run")
    refused(resume(tmp_path / "run"), "header")  # read as safetensors, whatever its name
    assert not executed.exists()


def without(tensors: dict[str, torch.Tensor]) -> str:
    name = min(tensors)
    del tensors[name]
    return name


def extra(tensors: dict[str, torch.Tensor]) -> str:
    tensors["a.stranger"] = torch.zeros(2)
    return "a.stranger"


def reshaped(tensors: dict[str, torch.Tensor]) -> str:
    name = min(tensors)
    tensors[name] = torch.zeros(3, 5, 7)
    return name


def not_a_number(tensors: dict[str, torch.Tensor]) -> str:
    name = max(tensors)
    tensors[name].view(-1)[0] = float("nan")
    return name


def infinite(tensors: dict[str, torch.Tensor]) -> str:
    name = max(tensors)
    tensors[name].view(-1)[-1] = float("-inf")
    return name


CHANGES = [without, extra, reshaped, not_a_number, infinite]


def change(path: Path, how: Callable[[dict[str, torch.Tensor]], str]) -> str:
    tensors = load_file(path)
    name = how(tensors)
    save_file(tensors, path)
    return name


@pytest.mark.parametrize("file", ["model.safetensors", "best.safetensors"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_checkpoint_with_wrong_tensors_is_refused_by_name(copied: Path, file: str, how):
    name = change(place_of(copied) / file, how)
    restamp(copied)
    refused(resume(copied), file, name)
    assert not (copied / "metrics.json").exists()


@pytest.mark.parametrize(
    "file", ["adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors"]
)
@pytest.mark.parametrize("how", CHANGES)
def test_a_saved_model_with_wrong_tensors_is_refused_by_name(finished: Path, file: str, how):
    refused_by = change(finished / file, how)
    refused(evaluate(finished, "--text", "profit rose"), refused_by)


@pytest.mark.parametrize("key", ["exp_avg", "exp_avg_sq", "step", "shape", "fewer", "none"])
def test_an_optimizer_with_wrong_tensors_is_refused(copied: Path, key: str):
    path = place_of(copied) / "optimizer.pt"
    saved = torch.load(path, weights_only=True)
    states = saved["optimizer"]["state"]
    if key == "shape":
        states[0]["exp_avg"] = torch.zeros(2, 3, 4)
    elif key == "fewer":
        saved["optimizer"]["param_groups"][0]["params"].pop()
    elif key == "none":
        del saved["weighting"]
    else:
        states[0][key] = states[0][key] * float("nan")
    torch.save(saved, path)
    restamp(copied)
    named = {"shape": "exp_avg of", "fewer": "parameters", "none": "weighting"}
    refused(resume(copied), "optimizer.pt", named.get(key, f"{key} of"))


@pytest.mark.parametrize(
    "file", ["optimizer.pt", "model.safetensors", "best.safetensors", "state.json"]
)
def test_a_checkpoint_without_a_file_is_refused_by_name(copied: Path, file: str):
    (place_of(copied) / file).unlink()
    refused(resume(copied), file)


def test_a_bit_that_fell_over_is_noticed(copied: Path):
    path = place_of(copied) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    refused(resume(copied), "model.safetensors", "changed")


@pytest.mark.parametrize("pointer", ["../../elsewhere", "step=1", "", "step=000002/../..", "\xff"])
def test_a_pointer_that_names_no_checkpoint_is_refused(copied: Path, pointer: str):
    (copied / "checkpoints" / "latest").write_bytes(pointer.encode("latin-1"))
    refused(resume(copied), "latest", "should name a checkpoint")


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"step": 2}', "[" * 100000])
def test_a_state_that_is_none_is_refused(copied: Path, content: str):
    (place_of(copied) / "state.json").write_text(content)
    refused(resume(copied), "checkpoint", "should be whole")


@pytest.mark.parametrize("key", ["tensors", "sha256", "best", "grown_at", "events", "step"])
def test_a_state_with_a_changed_entry_is_refused(copied: Path, key: str):
    path = place_of(copied) / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, key: 7}))
    refused(resume(copied), "state.json", "changed")


def test_the_digests_of_all_that_predicts_are_recorded(full_run: Path):
    metrics = json.loads((full_run / "metrics.json").read_text())
    assert set(metrics["files"]) == {
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "heads.safetensors",
        "dendrites.safetensors", "dendrites.json", "tasks.json", "calibration.json",
    }  # fmt: skip
    assert all(len(found) == 64 for found in metrics["files"].values())
    assert len(metrics["data"]["fingerprint"]) == 64


@pytest.mark.parametrize(
    "file", ["adapter/adapter_model.safetensors", "heads.safetensors", "dendrites.safetensors"]
)
def test_other_weights_than_those_tested_are_refused(finished: Path, file: str):
    tensors = load_file(finished / file)
    first = min(tensors)
    tensors[first] = tensors[first] + 1
    save_file(tensors, finished / file)
    refused(evaluate(finished, "--text", "profit rose"), file, "sha256")
    refused(evaluate(finished), file, "sha256")


def test_a_run_of_before_the_digests_is_still_read(finished: Path):
    metrics = json.loads((finished / "metrics.json").read_text())
    del metrics["files"]
    (finished / "metrics.json").write_text(json.dumps(metrics))
    assert evaluate(finished, "--text", "profit rose").exit_code == 0


def test_no_load_in_the_project_runs_code():
    root = Path(__file__).parents[2]
    files = [*(root / "dao").rglob("*.py"), *(root / "tasks").glob("*.py"), *root.glob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    assert text.count("torch.load(") == text.count("weights_only=True") == 1
    assert "trust_remote_code=True" not in text
    for word in (
        "import pickle",
        "pickle.load",
        "joblib.load",
        "allow_pickle",
        "eval(repr",
        "marshal",
    ):
        assert word not in text
