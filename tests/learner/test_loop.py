"""fit() on a tiny encoder: what it leaves behind, and that stopping and resuming change nothing."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dao.errors import UserError
from dao.learner.batches.batching import Examples
from dao.learner.kinds.regression import Regression
from dao.learner.model.model import build
from dao.learner.settings.config import load_config
from dao.learner.storage.writing import OwnedRecord
from dao.learner.training import loop
from dao.learner.training.loop import Fitted, Job, fit

CPU = torch.device("cpu")
ROWS = 12
STEPS = 6  # two epochs of three


class Watcher:
    """A progress that keeps what it is told, and stops training after a step."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.totals: set[int] = set()
        self.scores: list[float] = []
        self.notes: list[str] = []

    def step(self, row: dict[str, Any], total: int) -> None:
        self.totals.add(total)
        if row["step"] == self.stop_after:
            raise KeyboardInterrupt

    def validation(self, row: dict[str, Any]) -> None:
        self.scores.append(row["score"])

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def job(tiny_bert: Path, tmp_path: Path):
    """Makes a job in a folder of its own: to tell a row's number, and the same negated."""

    def make(place: str, watcher: Watcher, *more: str, bad: int | None = None) -> Job:
        overrides = [
            "tasks=up,down", f"encoder.name={tiny_bert}", "encoder.precision=fp32",
            "train.epochs=2", "train.batch_size=4", "train.log_every=1",
            "train.checkpoint_every=1", "train.validations_per_epoch=1", *more,
        ]  # fmt: skip
        cfg = load_config(None, overrides)
        values = torch.linspace(-1, 1, ROWS)
        targets = {"up": values.clone(), "down": -values}
        if bad is not None:
            targets["up"][bad] = math.inf
        ids = [[3 + row, 4, 5 + row % 3] for row in range(ROWS)]
        tasks = {name: Regression(name, name) for name in targets}
        model, _, _ = build(cfg.encoder, dict.fromkeys(tasks, 1), CPU, cfg.seed)
        folder = OwnedRecord(tmp_path / place)
        folder.path.mkdir()
        validation = Examples(ids, {"up": values, "down": -values})
        names = [f"row {row}" for row in range(ROWS)]
        train = Examples(ids, targets)
        return Job(model, tasks, train, validation, 0, cfg, folder, watcher, names=names)

    return make


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in fitted.model.named_parameters() if p.requires_grad}


def test_what_a_fit_leaves_behind(job):
    watcher = Watcher()
    work = job("run", watcher)
    fitted = fit(work)
    rows = work.folder.rows("history.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert (fitted.steps, fitted.planned, fitted.skipped) == (STEPS, None, 0)
    assert watcher.totals == {STEPS}
    assert fitted.report is None
    for task in ("up", "down"):
        seen = [row["tasks"][task]["weight"] for row in rows]
        assert fitted.weights[task] == {"first": seen[0], "last": seen[-1]}
    validations = work.folder.rows("validation.jsonl")
    assert [row["score"] for row in validations] == watcher.scores
    best = max(validations, key=lambda row: row["score"])
    assert fitted.best_step == best["step"]


def test_a_fit_that_was_stopped_goes_on_to_the_same_end(job):
    whole = fit(job("whole", Watcher(), "weighting=dao"))
    with pytest.raises(KeyboardInterrupt):
        fit(job("run", Watcher(stop_after=5), "weighting=dao"))
    resumed = job("run-again", Watcher(), "weighting=dao")
    resumed.folder.path.rmdir()
    (resumed.folder.path.parent / "run").rename(resumed.folder.path)
    found = fit(resumed, resume=True)
    assert (found.steps, found.best_step) == (whole.steps, whole.best_step)
    assert found.weights == whole.weights  # the first ones are from before the stop
    a, b = weights(whole), weights(found)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_value_that_is_not_finite_ends_the_fit_and_names_rows(job):
    with pytest.raises(UserError, match=r"The loss of `up` should be finite\. Found inf at step"):
        fit(job("run", Watcher(), bad=3))


def test_steps_that_are_left_out_are_counted_and_change_no_weight(job):
    watcher = Watcher()
    work = job("run", watcher, "train.nonfinite=skip", bad=3)
    fitted = fit(work)
    skipped = work.folder.rows("skipped.jsonl")
    assert fitted.skipped == len(skipped) == 2  # one in each epoch
    assert all("row 3" in row["rows"] for row in skipped)
    assert [note.partition(":")[0] for note in watcher.notes] == [
        f"step {row['step']} left out" for row in skipped
    ]
    trained = [row["step"] for row in work.folder.rows("history.jsonl")]
    assert sorted(trained + [row["step"] for row in skipped]) == list(range(1, STEPS + 1))
    assert all(torch.isfinite(tensor).all() for tensor in weights(fitted).values())


def test_every_rank_stops_where_the_first_one_does(job, monkeypatch):
    state = loop.State(job("run", Watcher(), "train.early_stopping=1"))
    state.best = {"score": 1.0, "step": 3}
    assert not loop.stops_after(state, 3)
    assert not loop.stops_after(state, 4)  # no validation is made there
    assert loop.stops_after(state, 6)
    monkeypatch.setattr(loop.ranks, "gather", lambda own: [False, own])
    assert not loop.stops_after(state, 6)
