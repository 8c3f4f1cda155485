"""What trackers are told of a run, and what happens when one of them fails."""

import json
import math
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dao.errors import UserError
from dao.learner.settings.config import load_config
from dao.learner.settings.decisive import decisive
from dao.learner.storage.record import RunFolder
from dao.learner.storage.writing import OwnedRecord
from dao.learner.tracking import tracked as module
from dao.learner.tracking import trackers
from dao.learner.tracking.tracked import Tracked, Trackers
from dao.learner.tracking.values import of_settings, of_step, of_validation

ROW = {
    "step": 3, "epoch": 1, "batch": "f00", "rows": 4, "lr": 0.5, "measured": True, "loss": 1.5,
    "tokens_per_s": 10.0, "memory_mib": 7.0,
    "tasks": {
        "cls": {"loss": 1.0, "weight": 0.5, "norm": 2.0, "share": 0.25},
        "reg": {"loss": math.nan, "weight": None, "norm": math.inf, "share": 0.75},
    },
}  # fmt: skip
CHECKED = {"step": 3, "epoch": 1, "score": 0.5, "best": True, "grown": True,
           "metrics": {"cls": {"accuracy": 0.5, "n": 2}}}  # fmt: skip


class Recorder:
    """A tracker of no package, which keeps what it is told and fails on demand."""

    def __init__(self, fails_at: float = math.inf) -> None:
        self.fails_at = fails_at
        self.told: list[tuple[int, dict[str, float]]] = []
        self.settings: dict[str, Any] = {}
        self.ended = 0
        self.tracker = SimpleNamespace(id="r1", info=SimpleNamespace(run_id="r1"))

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= self.fails_at:
            raise ConnectionError("the server\n is away")
        self.told.append((step, values))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def finish(self) -> None:
        self.ended += 1


class Shown:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, row, total) -> None: ...

    def validation(self, row) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def of_stage(self, name: str, before: int) -> "Shown":
        return self


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Tracker -> the recorder, what makes it, or an error; and what runs were opened."""
    found: dict[str, Any] = {"runs": []}

    def open_tracker(name: str, run: trackers.TrackedRun) -> Recorder:
        found["runs"].append(run)
        if isinstance(found[name], Exception):
            raise found[name]
        return found[name](run) if callable(found[name]) else found[name]

    monkeypatch.setattr(module, "open_tracker", open_tracker)
    return found


def progress(folder: Path, shown: Shown, *names: str) -> Tracked:
    cfg = load_config(None, [f"train.track=[{','.join(names)}]", "name=mine", "seed=4"])
    folder.mkdir(exist_ok=True)
    return Tracked(shown, Trackers(cfg, OwnedRecord(folder), shown.note))


def test_numbers_that_are_missing_or_not_finite_are_left_out():
    assert of_step(ROW) == {
        "train/loss": 1.5, "train/lr": 0.5, "train/epoch": 1.0, "train/tokens_per_s": 10.0,
        "train/memory_mib": 7.0, "loss/cls": 1.0, "weight/cls": 0.5, "norm/cls": 2.0,
        "share/cls": 0.25, "share/reg": 0.75,
    }  # fmt: skip


def test_names_are_such_as_every_tracker_takes():
    row = {"score": 0.0, "grown": False, "metrics": {"cls": {"f1 (up)": 1.0}}}
    assert "validation/cls.f1 _up_" in of_validation(row)


def test_every_setting_is_a_number_or_text():
    flat = of_settings(load_config().model_dump(mode="json"))
    assert flat["train.lr"] == 1.5e-3
    assert flat["tasks.cls.kind"] == "classification"
    assert all(isinstance(value, int | float | str) for value in flat.values())


def test_a_tracker_is_told_of_every_row(tmp_path, opened):
    opened["wandb"] = told = Recorder()
    with progress(tmp_path / "run", Shown(), "wandb") as shown:
        shown.step(ROW, 9)
        shown.validation(CHECKED)
        test = {"splits": {"test": {"cls": {"accuracy": 1.0}}}, "training": {"steps": 9}}
        shown.finished(test)
    of_checked = {"validation/score": 0.5, "validation/cls.accuracy": 0.5, "validation/cls.n": 2.0,
                  "dendrites/grown": 1.0}  # fmt: skip
    assert told.told == [(3, of_step(ROW)), (3, of_checked), (9, {"test/cls.accuracy": 1.0})]
    assert (told.ended, told.settings["seed"]) == (1, 4)
    (run,) = opened["runs"]
    assert (run.project, run.name, run.known_as) == ("mine", "cls+reg/seed=4", None)
    assert json.loads((tmp_path / "run" / "tracking.json").read_text()) == {
        "trackers": {"wandb": {"run": "r1"}}
    }


def test_a_run_that_goes_on_is_the_same_run_to_its_tracker(tmp_path, opened):
    opened["wandb"] = Recorder()
    with progress(tmp_path / "run", Shown(), "wandb") as shown:
        shown.step(ROW, 9)
    opened["wandb"] = again = Recorder()
    with progress(tmp_path / "run", Shown(), "wandb") as shown:
        shown.step({**ROW, "step": 4}, 9)
    assert [(run.known_as, run.first) for run in opened["runs"]] == [(None, 3), ("r1", 4)]
    assert [step for step, _ in again.told] == [4]
    assert again.settings == {}  # those of the beginning stand


def test_stages_have_names_and_steps_that_never_fall(tmp_path, opened):
    opened["wandb"] = told = Recorder()
    with progress(tmp_path / "run", Shown(), "wandb") as shown:
        shown.of_stage("news", 0).step(ROW, 5)
        shown.of_stage("router", 5).step(ROW, 5)
        shown.of_stage("", 10).step(ROW, 5)
    assert [(step, min(values)) for step, values in told.told] == [
        (3, "news/loss/cls"), (8, "router/loss/cls"), (13, "loss/cls"),
    ]  # fmt: skip


@pytest.mark.parametrize("fails_at", [3, 5])
def test_a_tracker_that_fails_is_told_of_once_and_the_others_go_on(tmp_path, opened, fails_at):
    opened["mlflow"], opened["wandb"] = Recorder(fails_at), Recorder()
    shown = Shown()
    with progress(tmp_path / "run", shown, "mlflow", "wandb") as both:
        for step in range(3, 8):
            both.step({**ROW, "step": step}, 9)
    assert [step for step, _ in opened["wandb"].told] == [3, 4, 5, 6, 7]
    assert [step for step, _ in opened["mlflow"].told] == list(range(3, fails_at))
    assert shown.notes == [
        f"train.track: mlflow failed at step {fails_at} and is told no more: the server is away. "
        f"The run goes on; history.jsonl and validation.jsonl have every figure"
    ]
    kept = json.loads((tmp_path / "run" / "tracking.json").read_text())["trackers"]
    assert kept["mlflow"]["failed"] == {"step": fails_at, "reason": "the server is away"}


def test_a_tracker_that_cannot_be_opened_is_asked_again_by_a_resumption(tmp_path, opened):
    opened["wandb"] = ConnectionError("no such host")
    shown = Shown()
    with progress(tmp_path / "run", shown, "wandb") as one:
        one.step(ROW, 9)
        one.step({**ROW, "step": 4}, 9)
    assert len(opened["runs"]) == len(shown.notes) == 1
    opened["wandb"] = again = Recorder()
    with progress(tmp_path / "run", shown, "wandb") as one:
        one.step({**ROW, "step": 5}, 9)
    assert [step for step, _ in again.told] == [5]
    assert again.settings["seed"] == 4


def test_a_rank_that_does_not_write_tells_no_tracker(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(module.ranks, "is_first", lambda: False)
    with progress(tmp_path / "run", Shown(), "wandb") as silent:
        silent.step(ROW, 9)
        silent.finished({})
    assert opened["runs"] == []


def test_a_tracker_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError) as refused:
        trackers.check_installed(["wandb", "mlflow"])
    assert str(refused.value) == (
        "`train.track` should name trackers that are installed. Found wandb, mlflow, which are "
        "not. Run: pip install wandb mlflow"
    )
    trackers.check_installed([])


def test_a_folder_that_a_tracker_left_behind_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb_left_behind").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="pip install wandb_left_behind"):
        trackers.check_installed(["wandb_left_behind"])


def test_trackers_are_named_once_and_decide_nothing():
    one, other = (load_config(None, [f"train.track={t}"]) for t in ("[]", "tensorboard"))
    assert other.train.track == ("tensorboard",)
    assert decisive(one) == decisive(other)
    for wrong, words in (("[wandb,wandb]", "each tracker once"), ("[neptune]", "neptune")):
        with pytest.raises(UserError, match=words):
            load_config(None, [f"train.track={wrong}"])


@pytest.mark.parametrize("name", ["trackio", "wandb", "mlflow"])
def test_a_real_tracker_takes_a_run_and_goes_on_with_it(name, tmp_path, monkeypatch):
    """Without a server: each keeps its figures in a folder of this machine."""
    pytest.importorskip(name, reason=f"needs pip install {name}")
    for variable, value in {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKIO_DIR": str(tmp_path / "trackio"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    shown, ids = Shown(), []
    for first in (1, 3):
        with progress(tmp_path / "run", shown, name) as told:
            for step in (first, first + 1):
                told.step({**ROW, "step": step}, 4)
        ids.append(RunFolder(tmp_path / "run").read("tracking.json")["trackers"][name])
    assert shown.notes == []
    assert ids[0] == ids[1]
    assert ids[0]["run"]
    if name == "mlflow":
        import mlflow

        kept = mlflow.MlflowClient().get_metric_history(ids[0]["run"], "weight/cls")
        assert [(m.step, m.value) for m in kept] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)]


# -- a server that is gone ------------------------------------------------------------------------


class Remote(Recorder):
    """A tracker that asks a server for everything, and tries a closed port again for ever."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.left = port, threading.Event()

    def log(self, values: dict[str, float], step: int) -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as server:
                    server.recv(1)
                    return
            except OSError:
                if self.left.wait(0.01):
                    return


@pytest.mark.parametrize("answers", [False, True], ids=["closed", "silent"])
def test_a_tracker_whose_server_is_gone_holds_no_run(tmp_path, opened, monkeypatch, answers: bool):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not answers:
            server.close()
        opened["wandb"], opened["mlflow"] = Remote(port), Recorder()
        shown = Shown()
        begun = time.monotonic()
        with progress(tmp_path, shown, "wandb", "mlflow") as told:
            for step in range(3, 6):
                told.step({**ROW, "step": step}, 9)
        assert time.monotonic() - begun < 5
        opened["wandb"].left.set()
    (line,) = shown.notes
    assert "wandb failed at step 3 and is told no more: it did not answer within 0.1 s" in line
    assert "The run goes on" in line
    assert [step for step, _ in opened["mlflow"].told] == [3, 4, 5]
    kept = json.loads((tmp_path / "tracking.json").read_text())["trackers"]
    assert kept["wandb"]["failed"]["step"] == 3


def test_a_tracker_that_opens_too_late_changes_nothing(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(module, "OPENING", 0.05)
    late, done = threading.Event(), threading.Event()

    def slowly(run: Any) -> Recorder:
        late.wait(30)
        done.set()
        return Recorder()

    opened["wandb"] = slowly
    with progress(tmp_path, Shown(), "wandb") as told:
        told.step(ROW, 9)
    before = (tmp_path / "tracking.json").read_text()
    late.set()
    assert done.wait(30)
    assert (tmp_path / "tracking.json").read_text() == before
    assert "run" not in json.loads(before)["trackers"]["wandb"]


def test_all_that_a_tracker_is_told_comes_from_one_thread(tmp_path, opened):
    """MLflow keeps the run that is under way by thread."""
    threads = set()

    class Watched(Recorder):
        def log(self, values: dict[str, float], step: int) -> None:
            threads.add(threading.get_ident())

        finish = store_init_configuration = lambda self, *_: threads.add(threading.get_ident())

    def open_here(run: Any) -> Recorder:
        threads.add(threading.get_ident())
        return Watched()

    opened["wandb"] = open_here
    with progress(tmp_path, Shown(), "wandb") as told:
        told.step(ROW, 9)
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
