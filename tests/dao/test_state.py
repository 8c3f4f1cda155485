import copy
import io

import pytest
import torch
from torch import nn

from dao import DAOLoss, UserError
from dao.schedule import due
from dao.state import RunningNorms

TASKS = ["cls", "reg"]


def filled(tasks=TASKS, **options):
    balance = DAOLoss(tasks, source="rep", priors={tasks[0]: 2.0}, **options)
    balance.state.observe({t: torch.tensor(10.0**i) for i, t in enumerate(tasks, 1)})
    balance.state.put_in_force(everything=True)
    return balance


def test_young_mean_is_plain_and_old_mean_is_exponential():
    values = torch.randn(30, dtype=torch.float64)
    state = RunningNorms(["a"], ema=0.9, prior=[1.0])
    expected = 0.0
    for n, value in enumerate(values, 1):
        state.observe({"a": value.exp()})
        old = 0.9 * expected + 0.1 * value.item()
        expected = values[:n].mean().item() if n <= 10 else old
        assert state.log_ema.item() == pytest.approx(expected, abs=1e-12)
    assert state.count.item() == 30


def test_without_smoothing_only_the_last_one_counts():
    state = RunningNorms(["a"], ema=0.0, prior=[1.0])
    for value in (3.0, 5.0, 7.0):
        state.observe({"a": torch.tensor(value)})
    assert state.log_ema.exp().item() == pytest.approx(7)


def test_schedule_every_step_and_in_powers_of_two():
    assert all(due(step, 1) for step in range(9))
    assert [s for s in range(40) if due(s, 10)] == [0, 1, 4, 10, 20, 30]


@pytest.mark.parametrize(
    "cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.float()]
)
def test_casting_the_parent_leaves_the_state_in_float64(cast):
    parent = nn.Module()
    parent.layer, parent.balance = nn.Linear(2, 2), filled()
    before = {k: v.clone() for k, v in parent.balance.state_dict().items()}
    cast(parent)
    for name, value in parent.balance.state_dict().items():
        same(value, before[name])
    assert parent.balance.state.log_ema.dtype == torch.float64
    assert parent.layer.weight.dtype != torch.float64


def test_moving_to_another_device_moves_the_state():
    balance = filled().to("meta")
    assert {b.device.type for b in balance.buffers()} == {"meta"}
    assert balance.state.log_ema.dtype == torch.float64


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_state_survives_a_file_that_holds_tensors_only():
    file = io.BytesIO()
    torch.save(filled().state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    fresh = DAOLoss(TASKS, source="rep")
    fresh.load_state_dict(saved)
    for name, value in filled().state_dict().items():
        same(fresh.state_dict()[name], value)


def test_state_loads_by_name_in_any_order():
    fresh = DAOLoss(["reg", "cls"], source="rep")
    fresh.load_state_dict(filled().state_dict())
    assert fresh.state.norm.tolist() == [100.0, 10.0]
    assert fresh.state.prior.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("names", [["cls", "score"], ["cls"], ["cls", "reg", "more"]])
def test_other_task_names_are_refused_and_nothing_is_overwritten(names):
    fresh = DAOLoss(names, source="rep")
    with pytest.raises(UserError) as caught:
        fresh.load_state_dict(filled().state_dict())
    assert str(names) in str(caught.value)
    assert str(TASKS) in str(caught.value)
    assert fresh.state.count.sum() == 0


def test_another_version_is_refused():
    saved = filled().state_dict()
    text = bytes(saved["state._extra_state"].tolist()).replace(b'"version": 1', b'"version": 2')
    saved["state._extra_state"] = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(UserError, match=r"version 1\. Found 2"):
        DAOLoss(TASKS, source="rep").load_state_dict(saved)


def test_a_copy_is_independent():
    balance = filled()
    other = copy.deepcopy(balance)
    other.reset()
    assert balance.state.count.tolist() == [1, 1]
    assert other.state.count.tolist() == [0, 0]
