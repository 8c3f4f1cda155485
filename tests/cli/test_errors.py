"""Bad input gives one clear line and exit code 1 or 2, and leaves nothing that looks finished."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dao.errors import UserError

GOOD = "text,label,score,split\n"
ROWS = "".join(
    f"profit {verb} in quarter {i},{label},{score},{split}\n"
    for i, (verb, label, score, split) in enumerate(
        [("rose", "up", 0.5, "train"), ("fell", "down", -0.5, "train")] * 10
        + [("rose", "up", 0.4, "validation"), ("fell", "down", -0.4, "test")] * 4
    )
)
ONE_VALIDATION = ("train.epochs=1", "train.validations_per_epoch=1")


def run(*arguments: object) -> Result:
    from train import app

    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def refused(result: Result, *fragments: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    message = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.strip().splitlines()[-1:] == message, result.stderr
    for fragment in fragments:
        assert fragment in message[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def train_on(tmp_path: Path, folder: Path, tiny_phi: Path):
    def start(content: str | bytes, *arguments: object) -> Result:
        file = tmp_path / "data.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return run("--encoder", tiny_phi, "--data", file, "--output", folder, *arguments)

    return start


@pytest.mark.parametrize(
    ("content", "arguments", "fragments"),
    [
        ("", (), ("data.csv", "empty")),
        (GOOD, (), ("data.csv", "rows")),
        (GOOD + ROWS, ("data.text=headline",), ("`headline`", "text, label, score, split")),
        (GOOD + ROWS, ("data.cls=sentiment",), ("`sentiment`", "data.cls=")),
        ("text,other\n" + "a,b\n" * 9, (), ("`label`", "`score`", "text, other")),
        (GOOD + ROWS.replace(",up,", ",,").replace(",down,", ",,"), (), ("`label`", "empty")),
        (GOOD + ROWS + "sales,sideways,0.1,test\n", (), ("sideways", "test")),
        (GOOD + ROWS + "sales,up,inf,train\n", (), ("`score`", "inf", "29")),
        (GOOD + ROWS + "sales,up,many,train\n", (), ("`score`", "many")),
        (GOOD + ROWS + "sales,up,1,someday\n", (), ("someday", "split")),
        (b"text,label\n\xff\xfe\x00,a\n", (), ("data.csv",)),
        (GOOD + ROWS, ("train.lrr=1",), ("`train.lrr` is not a setting",)),
        (GOOD + ROWS, ("train.lr=-1",), ("`train.lr`", "above 0")),
        (GOOD + ROWS, ("--tasks", "sentiment"), ("`sentiment`", "text, label, score, split")),
        (GOOD + ROWS, ("--device", "nowhere"), ("`device`", "nowhere")),
        (GOOD + ROWS, ("--encoder", "/nowhere/at/all"), ("`encoder.name`", "/nowhere/at/all")),
        (GOOD + ROWS, ("data.slices=[region]",), ("`data.slices`", "region")),
        (GOOD + ROWS, ("--dendrites", *ONE_VALIDATION), ("`dendrites.grow_at`",)),
    ],
    ids=[
        "empty file", "no rows", "no text column", "no class column", "no task column",
        "all labels missing", "class only in test", "infinite score", "score is no number",
        "unknown split", "not utf-8", "unknown key", "bad value", "unknown task", "no such device",
        "no such encoder", "no such slice", "growth at the end",
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(train_on, folder: Path, content, arguments, fragments):
    refused(train_on(content, *arguments), *fragments)
    assert not (folder / "metrics.json").exists()


def test_another_projects_folder_is_never_touched(train, tmp_path: Path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "precious.txt").write_text("dear")
    refused(train(tmp_path, "--overwrite"), "other files")
    (tmp_path / "precious.txt").unlink()
    (tmp_path / "config.yaml").write_text("mine: true\n")
    refused(train(tmp_path, "--overwrite"), "other files")
    assert (tmp_path / "config.yaml").read_text() == "mine: true\n"


@pytest.mark.slow
def test_one_process_at_a_time(train, tmp_path: Path):
    from dao.learner.storage.writing import OwnedRecord

    with OwnedRecord(tmp_path / "run").locked():
        refused(train(tmp_path / "run"), "another at work", f"process {os.getpid()} since 20")
    assert train(tmp_path / "run").exit_code == 0


def test_several_processes_are_started_by_torchrun(train, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(train(tmp_path / "run"), "torchrun", "WORLD_SIZE", "RANK, LOCAL_RANK, MASTER_ADDR")


def test_evaluation_runs_as_one_process(full_run: Path, monkeypatch):
    from evaluate import app

    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(CliRunner().invoke(app, [str(full_run)]), "one process", "WORLD_SIZE")


@pytest.mark.slow
def test_settings_changed_before_a_resumption_are_refused(train, tmp_path: Path, monkeypatch):
    from dao.learner.console.report import RichProgress

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RichProgress, "validation", stop)
        patch.setattr("dao.learner.training.plan.Plan.validations", (7,), raising=False)
        result = train(tmp_path / "run", "train.checkpoint_every=2")
    assert result.exit_code == 130
    assert f"--resume {tmp_path / 'run'} continues" in result.stderr
    config = tmp_path / "run" / "config.yaml"
    written = config.read_text()
    config.write_text(written.replace("\n  epochs: 2", "\n  epochs: 3"))
    refused(run("--resume", tmp_path / "run"), "`train.epochs`", "2 to 3")
    config.write_text(written)
    state = next((tmp_path / "run" / "checkpoints").glob("step=*/state.json"))
    state.write_text("{")
    refused(run("--resume", tmp_path / "run"), "checkpoint", "should be whole")


def test_a_full_disk_is_one_clear_line(train, tmp_path: Path, monkeypatch):
    from dao.learner.storage.writing import OwnedRecord

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "history.jsonl")

    monkeypatch.setattr(OwnedRecord, "append", full)
    refused(train(tmp_path / "run"), "history.jsonl", "No space left on device")


@pytest.mark.slow
def test_lists_in_further_columns_do_no_harm(tmp_path: Path, tiny_phi: Path):
    import json

    rows = [
        {
            "text": f"profit {i}",
            "label": "up" if i % 2 else "down",
            "tags": ["a"],
            "src [/x]": i % 3,
        }
        for i in range(60)
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    result = run("--tasks", "cls", "--encoder", tiny_phi, "--data", file, "--output",
                 tmp_path / "run", "train.epochs=1")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "src [/x] = 2" in result.stdout


@pytest.mark.parametrize(
    ("content", "arguments", "fragment"),
    [
        (GOOD + ROWS + "sales,sideways,0.1,test\n", (), "sideways"),
        (GOOD + ROWS, ("--device", "nowhere"), "nowhere"),
        (GOOD + ROWS, ("--encoder", "./nowhere"), "./nowhere"),
        (GOOD + ROWS, ("data.slices=region",), "region"),
        (GOOD + ROWS, ("data.slices=cls",), "cls"),  # a task is no property to break down by
        (GOOD + ROWS, ("--weighting", "torchjd:NoSuch"), "NoSuch"),
        (GOOD + ROWS, ("encoder.lora.last_layers=3",), "Found 3; phi has 2"),
        (GOOD + ROWS, ("encoder.lora.targets=[nowhere]",), "nowhere"),
        (GOOD + ROWS, ("encoder.pooling=first",), "first token of phi sees no other"),
    ],
)
def test_refused_by_a_dry_run_and_before_there_is_a_folder(
    train_on, folder, content, arguments, fragment
):
    refused(train_on(content, "--dry-run", *arguments), fragment)
    refused(train_on(content, *arguments), fragment)
    assert not folder.exists()


def test_a_missing_file_is_named(folder: Path):
    refused(run("--data", "absent.csv", "--output", folder), "absent.csv")
    assert not folder.exists()


def test_unknown_flags_exit_with_2(folder: Path):
    result = run("--daoo", "--output", folder)
    assert result.exit_code == 2
    assert "--daoo" in result.stderr


def test_resume_stands_alone(full_run: Path):
    assert run("--resume", full_run, "--seed", "1").exit_code == 2


def test_what_cannot_be_resumed_is_refused(full_run: Path, tmp_path: Path):
    refused(run("--resume", tmp_path), "should hold config.yaml")
    refused(run("--resume", full_run), "should be unfinished")
    (tmp_path / "config.yaml").write_text((full_run / "config.yaml").read_text())
    refused(run("--resume", tmp_path), "before the first", "--overwrite")


def test_a_run_is_never_replaced_unasked(train, full_run: Path, tmp_path: Path):
    before = (full_run / "metrics.json").read_bytes()
    refused(train(full_run), "a finished run", "--overwrite")
    assert (full_run / "metrics.json").read_bytes() == before
    (tmp_path / "letter.txt").write_text("dear")
    refused(train(tmp_path), "other files")
    refused(train(tmp_path, "--overwrite"), "other files")
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_an_encoder_that_cannot_be_built_is_refused_by_loading(train_on, tiny_bert, tmp_path):
    broken = shutil.copytree(tiny_bert, tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5}))
    refused(train_on(GOOD + ROWS, "--encoder", broken), "broken", "not a multiple")


@pytest.mark.slow
def test_a_run_that_failed_before_training_is_simply_started_again(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise UserError("no room for the states")

    monkeypatch.setattr("dao.learner.pipeline.prepare.cache_prefix", fail)
    cached = ("encoder.prefix_cache=true", "encoder.lora.last_layers=1", f"cache={tmp_path}")
    refused(train(tmp_path / "run", *cached), "no room for the states")
    assert (tmp_path / "run" / "config.yaml").exists()
    assert train(tmp_path / "run").exit_code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(train_on, tmp_path: Path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(train_on(GOOD + ROWS, "--output", locked / "run"), "locked", "Permission denied")


def test_a_place_that_cannot_be_a_folder_is_named(train_on, tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused(train_on(GOOD + ROWS, "--output", tmp_path / "file" / "run"), "file/run", "refused")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (("train.validations_per_epoch=1",), "The loss of `"),
        (("train.validations_per_epoch=10",), "Every output of `"),
    ],
)
def test_divergence_names_the_step_and_the_task(train, tmp_path: Path, settings, what):
    result = train(tmp_path / "run", "train.lr=1e30", "train.clip=1e30", *settings)
    refused(result, what, "should be finite", "at step", "train.lr")
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
def test_dendrites_that_never_learn_fail_the_run(train, tmp_path: Path, monkeypatch):
    from dao.learner.dendrites.dendrites import Dendrites

    monkeypatch.setattr(Dendrites, "record_gradients", lambda self: None)
    result = train(tmp_path / "run", "--dendrites")
    refused(result, "1 were added and 0 received a gradient")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_without_perforatedai_the_flag_says_how_to_get_it(train, tmp_path: Path, monkeypatch):
    import sys

    for name in [n for n in sys.modules if n.split(".")[0] == "perforatedai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "perforatedai", None)
    refused(train(tmp_path / "run", "--dendrites"), "pip install", "dendrites")
