"""Many tasks: whose turn it is, what that costs, and what stands in for those who wait."""

import math
import random
import warnings

import pytest
import torch
from torch import nn

from dao import DAOLoss, adapter_norm
from dao.schedule import FIRST, GAP, MeasuringPlan, measuring_plan


def names(count):
    return [f"t{k}" for k in range(count)]


class Many(nn.Module):
    """A shared layer and as many heads as tasks, whose losses have the scales given."""

    def __init__(self, count, scales=None):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6))
        self.scales = scales or [1.0] * count
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(count))
        self.passes = 0

    def _count(self, _):
        self.passes += 1

    def losses(self, seed=0, tap=lambda z: z, present=None):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        first = self.shared[0](x)
        if first.requires_grad:  # what reaches it went through all of the shared part
            first.register_hook(self._count)
        z = tap(self.shared[1:](first))
        tasks = names(len(self.heads))
        found = {
            task: scale * (head(z) - k).square().mean()
            for k, (task, head, scale) in enumerate(
                zip(tasks, self.heads, self.scales, strict=True)
            )
        }
        return {task: found[task] for task in (tasks if present is None else present)}


def balanced(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return DAOLoss(names(len(model.heads)), params=model.shared.parameters, **options)


def asked(balance, call):
    """The tasks whose credit was spent in a call: those measured in turn."""
    before = balance.state.count + balance.state.offset_count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        call()
    after = balance.state.count + balance.state.offset_count
    return [
        task for task, more in zip(balance.tasks, (after > before).tolist(), strict=True) if more
    ]


@pytest.mark.parametrize("count", [4, 10])
def test_turns_by_hand(count):
    model = Many(count)
    balance, found = balanced(model), {}
    for step in range(151):
        losses = model.losses(step)
        due = balance.is_due(losses)
        measured = asked(balance, lambda losses=losses: balance.weights(losses))
        assert due == balance.measured == bool(measured)
        found |= {step: measured} if measured else {}
    line = {4: "0123 0 1 2 3 0 1", 10: "01234567 8 9 0 1 2 3"}[count]
    expected = [[f"t{digit}" for digit in turn] for turn in line.split()]
    assert found == dict(zip(range(0, 151, 25), expected, strict=True))


@pytest.mark.parametrize("tapped", [False, True])
@pytest.mark.parametrize("count", [4, 8, 32])
def test_backward_passes_stay_the_same_for_any_number_of_tasks(count, tapped):
    model = Many(count)
    balance, steps = balanced(model), 61
    for step in range(steps):
        losses = model.losses(step, balance.tap if tapped else lambda z: z)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            balance(losses).backward()
    gap = 50 if tapped else 25
    assert model.passes - steps == min(count, 8) + (steps - 1) // gap
    assert balance._plan == (
        MeasuringPlan("rep", 10, 50) if tapped else MeasuringPlan("params", 0, 25)
    )
    # At the representation at 0, 1, 4, and each tenth step, besides the comparison at 50.
    if tapped:
        assert set(balance.state.count.tolist()) == {9}
        assert balance.state.offset_count.sum() == min(count, 8) + 1


@pytest.mark.parametrize(
    "presence", ["one by one", "at random", pytest.param("late", marks=pytest.mark.slow)]
)
def test_any_batches_keep_the_budget_and_the_promise(presence):
    count, steps, choice = 12, 3000, random.Random(0)
    balance = DAOLoss(names(count), params=[torch.ones(1, requires_grad=True)])
    state, plan = balance.state, MeasuringPlan("params", 0, GAP)
    since, turns, times = dict.fromkeys(names(count), 0), 0, dict.fromkeys(names(count), 0)
    for step in range(steps):
        present = {
            "one by one": [f"t{step % count}"],
            "at random": [t for t in names(count) if choice.random() < 0.3] or ["t0"],
            "late": names(count)[: 4 if step < 1000 else count],
        }[presence]
        credit = state.credit_of(present)
        had = [task for task, value in credit.items() if value >= 1 - 1e-9]
        turns += len(had)
        for task in present:
            since[task] = 0 if task in had else since[task] + 1
            times[task] += task in had
            assert since[task] < GAP * count
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            state.take_turns(plan, {t: torch.tensor(1.0).double() for t in present}, 1)
        state.tick(present)
        assert turns <= FIRST + count / 2 + step / GAP + 1
    assert turns >= steps / GAP - count
    if presence != "late":
        assert max(times.values()) - min(times.values()) <= max(times.values()) / 4


@pytest.mark.slow
def test_one_by_one_in_a_cycle_every_task_is_measured_as_often():
    model = Many(4)
    balance = balanced(model)
    for step in range(500):
        task = f"t{step % 4}"
        balance.weights(model.losses(step, present=[task]))
    # Each has 125 calls. Its turn is the first, comes after 6 to 25 of its calls, and every 25.
    assert balance.state.count.tolist() == [6, 6, 6, 5]


def test_up_to_three_tasks_without_a_tap_go_as_with_every_fifty_steps():
    found = []
    for options in ({}, {"refresh_every": 50}, {"source": "params"}):
        torch.manual_seed(0)
        model = Many(3, [1.0, 100.0, 0.01])
        balance = balanced(model, **options)
        weights = []
        for step in range(52):
            weights += [w.item() for w in balance.weights(model.losses(step)).values()]
        found.append(weights)
        assert balance.state.count.tolist() == [5, 5, 5]
        assert model.passes == 15
    assert found[0] == found[1] == found[2]


def test_up_to_three_tapped_tasks_are_measured_at_every_step():
    torch.manual_seed(0)
    model = Many(3, [1.0, 100.0, 0.01])
    balance = balanced(model)
    for step in range(102):
        balance(model.losses(step, balance.tap)).backward()
    assert balance.state.count.tolist() == [102] * 3
    # Compared with the norms over the parameters: all at step 0, then one at 50 and one at 100.
    assert balance.state.offset_count.tolist() == [2, 2, 1]
    assert model.passes == 102 + 5


def test_a_given_period_measures_all_tasks_at_once():
    model = Many(9, [10.0**k for k in range(9)])
    balance = balanced(model, refresh_every=5)
    counts = []
    for step in range(11):
        losses = model.losses(step, balance.tap)
        lam = balance.weights(losses)
        counts.append(int(balance.state.count[0]))
        assert len(set(balance.state.count.tolist())) == 1
        if step == 0:
            weighted = [
                torch.autograd.grad(lam[t] * x, list(model.shared.parameters()), retain_graph=True)
                for t, x in losses.items()
            ]
            sizes = [torch.cat([g.flatten() for g in grads]).norm().item() for grads in weighted]
            assert sizes == pytest.approx([sizes[0]] * 9, rel=1e-5)
    assert counts == [1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 5]


def test_up_to_eight_tasks_are_balanced_exactly_by_the_first_step():
    model = Many(8, [10.0**k for k in range(8)])
    losses = model.losses()
    lam = balanced(model).weights(losses)
    sizes = []
    for task, loss in losses.items():
        grads = torch.autograd.grad(loss, list(model.shared.parameters()), retain_graph=True)
        sizes.append(lam[task].item() * torch.cat([g.flatten() for g in grads]).norm().item())
    assert sizes == pytest.approx([sizes[0]] * 8, rel=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_a_task_that_waits_is_weighted_by_its_first_loss(unit):
    # Losses that are multiples of each other: the guess is then exact.
    p = torch.ones(2, requires_grad=True, dtype=torch.float64)
    balance = DAOLoss(names(12), params=[p])

    def losses():
        return {t: unit**k * (k + 1) * p.square().sum() for k, t in enumerate(names(12))}

    given = losses()
    with pytest.warns(UserWarning, match="one of 12 tasks at a time, every 25 steps") as told:
        lam = balance.weights(given)
    assert len(told) == 1
    assert "waits for 100 steps" in str(told[0].message)
    assert balance.state.count.tolist() == [1] * 8 + [0] * 4
    pulls = [lam[t].item() * x.item() for t, x in given.items()]
    assert pulls == pytest.approx([pulls[0]] * 12, rel=1e-5)
    assert math.isnan(balance.telemetry()["t11"]["norm"])


def test_where_the_first_loss_says_nothing_the_task_counts_as_average():
    p = torch.ones(2, requires_grad=True)
    balance = DAOLoss(names(12), params=[p])
    given = {t: 10.0**k * p.square().sum() for k, t in enumerate(names(12))}
    given |= {"t10": given["t10"] * 0, "t11": -given["t11"]}
    with pytest.warns(UserWarning, match="at a time"):
        balance.weights(given)
    logs = balance.state.log_norms()
    assert logs[10] == logs[11] == pytest.approx(logs[:8].mean().item())
    assert logs[9].item() == pytest.approx(logs[0].item() + 9 * math.log(10))


def test_tapped_weights_by_hand():
    model = Many(10, [2.0**k for k in range(10)])
    balance, kept = balanced(model), []
    losses = model.losses(3, lambda z: kept.append(z) or balance.tap(z))
    lam = torch.stack(list(balance.weights(losses).values()))
    cheap, full = [], []
    for loss in losses.values():
        g, *grads = torch.autograd.grad(
            loss, [kept[0], *model.shared.parameters()], retain_graph=True
        )
        cheap.append(adapter_norm(g, kept[0]).item())
        full.append(torch.cat([q.double().flatten() for q in grads]).norm().item())
    offset = torch.tensor(full).double().log() - torch.tensor(cheap).double().log()
    mean = offset[:8].mean()
    used = torch.cat([(offset[:8] + 4 * mean) / 5, mean.expand(2)])  # one comparison of five
    norms = (torch.tensor(cheap).double().log() + used).exp()
    torch.testing.assert_close(lam, norms.mean() / norms, rtol=1e-6, atol=0)
    share = torch.tensor([row["share"] for row in balance.telemetry().values()]).double()
    torch.testing.assert_close(share, torch.full((10,), 0.1).double(), rtol=1e-5, atol=0)


def run(model, balance, steps, tapped):
    found = []
    for step in steps:
        losses = model.losses(step, balance.tap if tapped else lambda z: z)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found.append([w.item() for w in balance.weights(losses).values()])
    return found


@pytest.mark.parametrize(
    ("tapped", "accumulate"),
    [
        (False, 1),
        pytest.param(False, 2, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
        pytest.param(True, 2, marks=pytest.mark.slow),
    ],
)
def test_resume_in_the_middle_continues_bitwise(tapped, accumulate):
    model = Many(10)
    expected = run(model, balanced(model, accumulate=accumulate), range(130), tapped)
    first, second = (balanced(model, accumulate=accumulate) for _ in range(2))
    run(model, first, range(41), tapped)
    second.load_state_dict(first.state_dict())
    assert run(model, second, range(41, 130), tapped) == expected[41:]
    assert len({tuple(row) for row in expected}) > 3


def test_a_state_loads_into_another_order_of_the_tasks():
    model = Many(10)
    balance = balanced(model)
    run(model, balance, range(30), tapped=False)
    other = DAOLoss(names(10)[::-1], params=model.shared.parameters)
    other.load_state_dict(balance.state_dict())
    for name in ("credit", "log_loss", "count"):
        assert torch.equal(getattr(other.state, name).flip(0), getattr(balance.state, name))


def test_a_state_of_an_earlier_version_loads():
    model = Many(2)
    balance = balanced(model)
    run(model, balance, range(3), tapped=False)
    saved = {
        k: v for k, v in balance.state_dict().items() if not k.endswith(("credit", "log_loss"))
    }
    fresh = balanced(model)
    fresh.load_state_dict(saved)
    for name, value in balance.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)


def test_a_turn_lasts_for_a_whole_optimizer_step():
    model = Many(5)
    balance = balanced(model, accumulate=3)
    turns = {}
    for call in range(3 * 55):
        losses = model.losses(call)
        if measured := asked(balance, lambda losses=losses: balance.weights(losses)):
            turns[call] = measured
    assert list(turns) == [0, 1, 2, 75, 76, 77, 150, 151, 152]
    assert [len(turns[call]) for call in (0, 1, 2)] == [5, 5, 5]
    assert [turns[call] for call in (75, 76, 77, 150, 151, 152)] == [["t0"]] * 3 + [["t1"]] * 3


@pytest.mark.parametrize("tapped", [False, True])
def test_while_nothing_trains_nobody_moves_up(tapped):
    model = Many(10)
    balance = balanced(model)
    for p in model.shared.parameters():
        p.requires_grad_(False)
    run(model, balance, range(30), tapped)
    assert balance.state.credit.tolist() == [0.0] * 10
    for p in model.shared.parameters():
        p.requires_grad_(True)
    found = run(model, balance, range(3), tapped)
    assert found == run(model, balanced(model), range(3), tapped)
    assert balance.state.count.gt(0).sum() == (10 if tapped else 8)


def test_whether_it_was_tapped_is_settled_by_the_first_training_call():
    model = Many(5)
    balance = balanced(model)
    assert balance.is_due(model.losses())  # asked before anything is tapped: settles nothing
    run(model, balance, range(2), tapped=True)
    run(model, balance, range(2, 4), tapped=False)
    with pytest.raises(RuntimeError, match=r"balance\.tap"):
        balance.weights(model.losses())  # step 4, where norms are due
    balance.reset()
    run(model, balance, range(2), tapped=False)
    assert balance._plan == MeasuringPlan("params", 0, GAP)


@pytest.mark.parametrize(
    ("source", "tasks", "every", "expected"),
    [
        ("auto", 3, None, MeasuringPlan("rep", 1, 50)),
        ("auto", 4, None, MeasuringPlan("rep", 10, 50)),
        ("auto", 4, 50, MeasuringPlan("params", 50, 0)),
        ("params", 4, None, MeasuringPlan("params", 0, 25)),
        ("last", 4, None, MeasuringPlan("last", 0, 25)),
        ("rep", 3, None, MeasuringPlan("rep", 1, 0)),
        ("params", 3, None, MeasuringPlan("params", 50, 0)),
        ("last", 3, None, MeasuringPlan("last", 50, 0)),
        ("rep", 4, None, MeasuringPlan("rep", 10, 0)),
        ("rep", 4, 50, MeasuringPlan("rep", 50, 0)),
    ],
)
def test_plans(source, tasks, every, expected):
    assert measuring_plan(source, tasks, every, tapped=True) == expected


def test_the_notice_comes_only_where_a_task_has_to_wait():
    for count, tapped in ((8, False), (9, True)):
        model = Many(count)
        balance = DAOLoss(names(count), params=model.shared.parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            balance.weights(model.losses(0, balance.tap if tapped else lambda z: z))
