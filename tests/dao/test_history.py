"""DAOHistory keeps what telemetry says, as rows, as a frame and as a figure."""

import math

import pytest
import torch

from dao import DAOHistory, DAOLoss, UserError
from dao import history as module

TASKS = ["cls", "reg"]


@pytest.fixture
def balance(toy) -> DAOLoss:
    return DAOLoss(TASKS, params=toy.shared(), refresh_every=1)


def step(balance, toy, make_batch, seed: int, *, without: str = "") -> dict[str, dict[str, float]]:
    x, label, score = make_batch(seed=seed)
    losses = toy.losses(toy.encoder(x), label, score)
    balance({task: loss for task, loss in losses.items() if task != without})
    return balance.telemetry()


@pytest.mark.parametrize("block", [1, 2, 100])
def test_a_row_is_what_telemetry_said_at_that_step(balance, toy, make_batch, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    history, expected = DAOHistory(balance), []
    for number in range(5):
        told = step(balance, toy, make_batch, number, without="reg" if number == 3 else "")
        history.record(number)
        expected += [{"step": number, "task": task, **row} for task, row in told.items()]
    assert history.rows() == expected
    assert len(expected) == 9  # a task that was absent has no row
    assert len(history) == 5


def test_steps_are_counted_where_none_are_given(balance, toy, make_batch):
    history = DAOHistory(balance, every=2)
    step(balance, toy, make_batch, 0)
    for given in (None, None, 10, None, None):
        history.record(given)
    assert [row["step"] for row in history.rows() if row["task"] == "cls"] == [0, 10, 12]


def test_the_latest_steps_are_kept(balance, toy, make_batch):
    history = DAOHistory(balance, keep=3)
    step(balance, toy, make_batch, 0)
    for number in range(10):
        history.record(number)
    assert [row["step"] for row in history.rows()[::2]] == [7, 8, 9]
    assert len(history._waiting) < 3


def test_waiting_for_the_device_comes_once_in_a_block(balance, toy, make_batch, monkeypatch):
    reads = []
    real = module.numbers
    monkeypatch.setattr(module, "numbers", lambda rows: reads.append(len(rows)) or real(rows))
    history = DAOHistory(balance)
    step(balance, toy, make_batch, 0)
    for _ in range(250):
        history.record()
    assert reads == [200, 200]


def test_a_frame_has_a_row_per_step_and_task(balance, toy, make_batch):
    history = DAOHistory(balance)
    assert list(history.to_frame().columns) == ["step", "task", "loss", "weight", "norm", "share"]
    for number in range(3):
        told = step(balance, toy, make_batch, number)
        history.record()
    frame = history.to_frame()
    assert frame.shape == (6, 6)
    wide = frame.pivot(index="step", columns="task", values="share")
    assert wide.loc[2, "cls"] == told["cls"]["share"]
    assert wide.sum(axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.slow
def test_a_plot_has_a_line_per_task_in_each_panel(balance, toy, make_batch):
    from matplotlib import pyplot as plt

    history = DAOHistory(balance)
    for number in range(3):
        step(balance, toy, make_batch, number)
        history.record(10 * number)
    figure, axes = history.plot()
    assert [panel.get_title() for panel in axes.flat] == [
        "weight", "gradient norm", "share of the weighted norms", "loss",
    ]  # fmt: skip
    norms = [row["norm"] for row in history.rows() if row["task"] == "reg"]
    line = next(line for line in axes[0, 1].get_lines() if line.get_label() == "reg")
    assert list(line.get_xdata()) == [0, 10, 20]
    assert list(line.get_ydata()) == norms
    assert all(len(panel.get_lines()) == 2 for panel in axes.flat)
    figure.canvas.draw()
    plt.close(figure)


def test_a_task_that_was_never_measured_has_a_gap():
    shared = torch.nn.Linear(2, 2).requires_grad_(False)
    head = torch.nn.Linear(2, 1)
    balance = DAOLoss(["a", "b"], params=shared.parameters())
    z = head(shared(torch.ones(1, 2)))
    with pytest.warns(UserWarning, match="train"):
        balance({"a": z.sum(), "b": z.square().sum()})
    history = DAOHistory(balance)
    history.record()
    assert all(math.isnan(row["norm"]) for row in history.rows())


def test_what_cannot_be_is_refused(balance):
    for options, name in (({"every": 0}, "every"), ({"keep": 0}, "keep")):
        with pytest.raises(UserError, match=f"`{name}` of DAOHistory should be at least 1"):
            DAOHistory(balance, **options)
    with pytest.raises(UserError, match="after a training call of the loss"):
        DAOHistory(balance).record()
