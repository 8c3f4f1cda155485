"""While nothing shared trains, weights stand; measuring begins with the first step that has it."""

import warnings

import pytest
import torch

from dao import DAOLoss, UserError

TASKS = ["cls", "reg"]
SOURCES = ["params", "filtered", "last", "rep", "calibrated"]


def make(source, toy, **options):
    if source == "filtered":
        options["params"] = lambda: [p for p in toy.encoder.parameters() if p.requires_grad]
    elif source != "rep":
        options["params"] = toy.encoder.parameters()
    if source == "calibrated":
        options |= {"source": "rep", "calibrate_every": 3}
    elif source != "filtered":
        options |= {"source": source, "module": toy.encoder}
    return DAOLoss(TASKS, **options)


def train(balance, toy, make_batch, steps, *, train_encoder=True):
    """Which of the steps measured, and the weights of the last."""
    toy.encoder.requires_grad_(train_encoder)
    measured = []
    for index in range(steps):
        x, label, score = make_batch(seed=index)
        losses = toy.losses(balance.tap(toy.encoder(x)), label, score)
        due = balance.is_due(losses)
        balance(losses).backward()
        assert balance.measured == due
        measured += [index] if balance.measured else []
    return measured, [row["weight"] for row in balance.telemetry().values()]


@pytest.mark.parametrize("source", SOURCES)
def test_a_warm_up_of_the_heads_is_as_if_it_had_not_been(toy, make_batch, source):
    balance = make(source, toy, refresh_every=6)
    with pytest.warns(UserWarning, match="Found nothing that does, so weights stand") as told:
        assert train(balance, toy, make_batch, 7, train_encoder=False) == ([], [1.0, 1.0])
    assert len([w for w in told if "weights stand" in str(w.message)]) == 1
    assert told[0].filename.endswith("test_frozen.py")
    assert all(p.grad is None for p in toy.encoder.parameters())
    assert all(p.grad is not None for p in toy.heads.parameters())
    assert all(row["norm"] != row["norm"] for row in balance.telemetry().values())
    assert balance.state.turns.tolist() == [0, 0]
    fresh = make(source, toy, refresh_every=6)
    expected = train(fresh, toy, make_batch, 8)
    assert train(balance, toy, make_batch, 8) == expected
    assert expected[0] == ([0, 1, 3, 4, 6] if source == "calibrated" else [0, 1, 4, 6])


@pytest.mark.parametrize("source", SOURCES)
def test_an_encoder_that_is_frozen_later_and_again(toy, make_batch, source):
    balance = make(source, toy, refresh_every=2)
    first = train(balance, toy, make_batch, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            held = train(balance, toy, make_batch, 9, train_encoder=False)
            assert held == ([], first[1])
            first = train(balance, toy, make_batch, 1)
            assert first[0] == [0]  # what was due has waited


def test_accumulation_keeps_its_windows_over_a_frozen_time(toy, make_batch):
    balance = make("params", toy, refresh_every=1, accumulate=2)
    with pytest.warns(UserWarning, match="weights stand"):
        train(balance, toy, make_batch, 4, train_encoder=False)
    assert train(balance, toy, make_batch, 6)[0] == [0, 1, 2, 3, 4, 5]
    assert balance.state.step == 10


def test_a_calibration_whose_parameters_are_frozen_waits(toy, make_batch):
    balance = DAOLoss(
        TASKS, source="rep", params=toy.encoder[0].parameters, calibrate_every=1, refresh_every=1
    )
    toy.encoder[0].requires_grad_(False)
    x, label, score = make_batch()
    balance(toy.losses(balance.tap(toy.encoder(x)), label, score))
    assert balance.state.count.tolist() == [1, 1]
    assert balance.state.offset_count.tolist() == [0, 0]


def test_parameters_that_train_but_are_not_used_remain_an_error(toy, losses):
    with pytest.raises(RuntimeError, match="should depend on `params`"):
        DAOLoss(TASKS, params=[torch.ones(3, requires_grad=True)])(losses)


def test_a_module_that_is_none_is_refused(toy):
    for wrong in (3, toy.shared(), torch.nn.Linear):
        with pytest.raises(UserError, match="`module` should be a module"):
            DAOLoss(TASKS, source="last", module=wrong)
