"""What a person sees of the runs while they are worked off."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from dao.learner.experiment.grid.board import Board, duration
from dao.learner.experiment.grid.factorial import factorial_cells
from dao.learner.experiment.grid.job import Outcome
from dao.learner.settings.config import load_config

SHOWN = {"cls": [("accuracy", "↑")], "reg": [("mse", "↓")]}


def text(board: Board) -> str:
    console = Console(width=board.width, color_system=None)
    with console.capture() as shown:
        console.print(board.view())
    return shown.get()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """One run done before the start, one a quarter through its 40 steps, one failed."""
    shared = load_config(
        None, [f"output={tmp_path}", "train.epochs=4", "train.batch_size=5", "train.accumulate=2"]
    )
    cells = factorial_cells(shared, 1, ["base/0", "dao/0", "sham/0", "reg/0"])
    done, running = (tmp_path / arm / "seed=0" for arm in ("base", "dao"))
    done.mkdir(parents=True)
    test = {"cls": {"accuracy": 0.5}, "reg": {"mse": 0.25}}
    content = {"headline": SHOWN, "splits": {"test": test}, "training": {"seconds": 1}}
    (done / "metrics.json").write_text(json.dumps(content))
    found = Board(cells, failed={"sham/0": Outcome("sham/0", False, 1, "why")})
    running.mkdir(parents=True)
    running.with_name("seed=0.log").write_text("")
    (running / "data.json").write_text(json.dumps({"rows": {"train": 95}}))  # ten batches
    rows = [{"step": step, "epoch": 1} for step in range(1, 11)]
    (running / "history.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows) + '{"st')
    now = found.began + 60
    found.clock = lambda: now
    return found


def test_the_table_shows_the_state_of_every_run(board: Board):
    lines = [line.split() for line in text(board).splitlines()]
    for line in ("base 0.500 0.250", "dao 10/40", "sham failed", "reg waiting"):
        assert line.split() in lines
    assert "test main figure of cls, reg; of a run at work, steps" in " ".join(text(board).split())
    assert "1 of 4 runs done, 1 running, 1 failed, 1 min so far" in text(board)


def test_a_narrow_terminal_gets_a_compact_table(board: Board):
    board.width = 27
    lines = [line.split() for line in text(board).splitlines()]
    for line in ("base ok", "dao 25%", "sham X", "reg ."):
        assert line.split() in lines


def test_time_left_follows_from_the_work_done_since_the_start(board: Board):
    # Two runs were missing that can still end; a quarter of one took a minute.
    assert board.seconds_left() == pytest.approx(60 * 1.75 / 0.25)
    assert "about 7 min to go" in board.summary()
    assert Board(board.cells).seconds_left() is None


def test_a_line_per_run(board: Board):
    done = board.line(Outcome("base/0", True, 1))
    assert done.startswith(
        "2/4 base seed=0: cls accuracy 0.5000, reg mse 0.2500, trained in 1 s; about 7"
    )
    assert "sham seed=0: failed: why" in board.line(board.failed["sham/0"])


def test_durations():
    assert [duration(s) for s in (0.4, 59.4, 61, 7322)] == ["0 s", "59 s", "1 min", "2 h 2 min"]
