"""In float16, weights do not depend on the scale of a loss."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dao import DAOLoss
from dao.half import _may_be_half, half_gradients, holds_half
from dao.importance import task_gradients

TASKS = ["cls", "reg"]
SOURCES = {
    "params": {},
    "last": {"source": "last"},
    "adapter": {"source": "rep"},
    "frobenius": {"source": "rep", "rep_norm": "frobenius"},
    "calibrated": {"source": "rep", "calibrate_every": 1},
}


def ratio(scale, options, dtype):
    """Weighted scale of `reg` beside `cls`, after two steps; 1 / that of the norms."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32))
    heads = nn.Linear(32, 3), nn.Linear(32, 1)
    balance = DAOLoss(
        TASKS, params=encoder.parameters(), module=encoder[2], refresh_every=1, max_ratio=None,
        **options,
    )  # fmt: skip
    for _ in range(2):
        x, label, score = torch.randn(64, 16), torch.randint(0, 3, (64,)), torch.randn(64)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            z = balance.tap(encoder(x))
            logits, guess = heads[0](z).float(), heads[1](z)[:, 0].float()
        losses = {"cls": F.cross_entropy(logits, label), "reg": scale * F.mse_loss(guess, score)}
        lam = balance.weights(losses)
    assert balance.state.count.tolist() == [2, 2]
    return (lam["reg"] * scale / lam["cls"]).item()


@pytest.mark.parametrize("source", SOURCES)
def test_the_ratio_of_weighted_losses_is_that_of_float32_at_every_scale(source):
    exact = ratio(1.0, SOURCES[source], torch.float32)
    for scale in (1e6, 1e4, 1.0, 1e-3, 1e-5, 1e-6, 1e-8, 1e-12):
        assert ratio(scale, SOURCES[source], torch.float16) == pytest.approx(exact, rel=1e-3)


def test_parameters_in_float16_are_measured_as_in_float32(toy, make_batch):
    x, label, score = make_batch()
    plain = toy.losses(toy.encoder(x), label, score)
    exact = DAOLoss(TASKS, params=toy.shared()).weights(plain)
    toy.half()
    z = toy.encoder(x.half())
    logits, guess = toy.heads["cls"](z).float(), toy.heads["reg"](z)[:, 0].float()
    losses = {"cls": F.cross_entropy(logits, label), "reg": 1e-7 * F.mse_loss(guess, score)}
    lam = DAOLoss(TASKS, params=toy.shared(), max_ratio=None).weights(losses)
    found = lam["reg"] * 1e-7 / lam["cls"]
    assert found.item() == pytest.approx((exact["reg"] / exact["cls"]).item(), rel=0.01)


def test_a_graph_is_asked_for_float16(toy, losses):
    assert not holds_half(losses.values())
    with torch.autocast("cpu", torch.bfloat16):
        assert not holds_half([toy.encoder(torch.ones(2, 4)).float().sum()])
    with torch.autocast("cpu", torch.float16):
        loss = toy.encoder(torch.ones(2, 4)).float().sum()
    assert holds_half([losses["cls"], loss])
    assert holds_half([losses["cls"].half()])


@pytest.mark.parametrize(
    ("name", "dtype", "found"),
    [("ToCopyBackward0", None, True), ("MmBackward0", None, False),
     ("AccumulateGrad", torch.float16, True), ("AccumulateGrad", torch.float32, False)],
)  # fmt: skip
def test_older_torch_takes_a_cast_for_float16(name, dtype, found):
    node = SimpleNamespace(name=lambda: name)
    if dtype:
        node.variable = torch.ones((), dtype=dtype)
    assert _may_be_half(node) == found


def test_a_power_of_two_changes_no_digit_where_there_is_no_float16(toy, losses):
    for loss in losses.values():
        plain = task_gradients(loss, toy.shared())
        assert all(map(torch.equal, half_gradients(loss, toy.shared()), plain))


def test_one_backward_is_enough_for_a_usual_loss_and_none_for_ever(monkeypatch):
    taken = []

    def counted(*args, **options):
        taken.append(options["factor"])
        return task_gradients(*args, **options)

    monkeypatch.setattr("dao.half.task_gradients", counted)
    x = torch.ones(4, requires_grad=True)

    def tries(loss):
        taken.clear()
        return half_gradients(loss, [x])[0], len(taken)

    assert tries(x.half().float().square().mean())[1] == 1
    gradient, count = tries(0 * x.half().float().sum())
    assert not gradient.any()
    assert count < 8
    root = (x - x.detach()).half().float().abs().sqrt().sum()
    gradient, count = tries(root)
    assert not gradient.isfinite().all()
    assert count == 12
    gradient, count = tries((x.half() * 100).square().float().sum() / 1e-4)  # overflows at first
    assert torch.equal(gradient, torch.full((4,), gradient[0].item()))
    assert gradient[0].item() == pytest.approx(2 * 100**2 / 1e-4, rel=1e-2)
