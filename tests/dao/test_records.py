import pytest
import torch

from dao import DAOLoss, TaskRecord
from dao.records import scaled, weighted_sum

TASKS = ["cls", "reg"]


def test_records_are_detached_scalars_that_agree_with_the_numbers(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    balance(losses, {"reg": 3.0})
    for task, record in balance.last.items():
        assert isinstance(record, TaskRecord)
        row = balance.telemetry()[task]
        assert list(row) == ["loss", "weight", "norm", "share"]
        for name, number in row.items():
            value = getattr(record, name)
            assert value.shape == ()
            assert value.dtype == torch.float64
            assert not value.requires_grad
            assert value.item() == number
    assert balance.telemetry()["reg"]["share"] == pytest.approx(0.75)


def test_records_do_not_change_afterwards(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    balance(losses)
    first, rows = balance.last, balance.telemetry()
    balance({t: 2 * loss.square() for t, loss in losses.items()})
    assert first["reg"].norm.item() == rows["reg"]["norm"] != balance.telemetry()["reg"]["norm"]


def test_a_data_weight_gets_no_gradient(toy, losses):
    data_weight = torch.tensor(2.0, requires_grad=True)
    balance = DAOLoss(TASKS, params=toy.shared())
    balance(losses, {"cls": data_weight}).backward()
    assert data_weight.grad is None
    assert not balance.last["cls"].share.requires_grad


def test_shares_of_equal_weights_show_who_dominates(toy, losses):
    control = DAOLoss(TASKS, params=toy.shared(), alpha=0.0)
    control(losses | {"reg": 1000 * losses["reg"]})
    rows = control.telemetry()
    assert rows["reg"]["share"] > 0.99
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_one_product_gives_the_digits_and_gradients_of_many():
    leaves = [torch.rand((), requires_grad=True) for _ in range(33)]
    losses = {str(k): leaf.exp() for k, leaf in enumerate(leaves)}
    weights = {task: torch.rand((), dtype=torch.float64) for task in losses}
    one = weighted_sum(losses, weights, {})
    many = torch.stack([scaled(loss, weights[t], None) for t, loss in losses.items()]).sum()
    assert torch.equal(one, many)
    found, expected = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (one, many))
    assert all(map(torch.equal, found, expected))
    mixed = losses | {"0": losses["0"].double(), "1": losses["1"].bfloat16()}
    assert weighted_sum(mixed, weights, {}).dtype == torch.float64
    assert weighted_sum(mixed, weights, {}).item() == pytest.approx(one.item(), rel=1e-2)
