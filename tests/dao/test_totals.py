"""What the weights add up to: a fixed sum, or a step whose size is known at any scale of a loss."""

import math
import warnings

import pytest
import torch
from torch import nn

from dao import DAOLoss, UserError, inverse_norm_weights

TASKS = ["cls", "reg"]
LOGS = torch.tensor([0.3, -2.0, 4.0], dtype=torch.float64)
PRIOR = torch.tensor([1.0, 5.0, 0.5])


def sizes(balance):
    """Summed norms in force of all tasks: as they are, and weighted."""
    norms = balance.state.log_norms().exp()
    weights = norms.new_tensor([balance.telemetry()[t]["weight"] for t in balance.tasks])
    return norms.sum().item(), (norms * weights).sum().item()


@pytest.mark.parametrize("max_ratio", [None, 3.0])
@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.0])
def test_only_the_sum_differs_between_totals(alpha, max_ratio):
    options = {"alpha": alpha, "prior": PRIOR, "max_ratio": max_ratio}
    plain = inverse_norm_weights(LOGS, **options)
    torch.testing.assert_close(inverse_norm_weights(LOGS, total="tasks", **options), plain)
    for total, expected in (("unit", 1.0), ("keep", LOGS.exp().sum().item())):
        weights = inverse_norm_weights(LOGS, total=total, **options)
        assert (weights * LOGS.exp()).sum().item() == pytest.approx(expected, rel=1e-13)
        torch.testing.assert_close(weights / weights[0], plain / plain[0], rtol=1e-13, atol=0)


def test_unit_by_hand():
    weights = inverse_norm_weights(torch.tensor([2.0, 8.0]).log(), total="unit")
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 16])
    tilted = inverse_norm_weights(
        torch.tensor([2.0, 8.0]).log(), total="keep", prior=torch.tensor([1.0, 3.0])
    )  # weighted norms 2.5 and 7.5, of 10 in all
    assert tilted.tolist() == pytest.approx([2.5 / 2, 7.5 / 8])


@pytest.mark.parametrize("exponents", [(-30, 30), (-30, -29), (29, 30), (-140, 140)])
def test_no_norm_is_too_small_or_too_large(exponents):
    logs = torch.tensor(exponents, dtype=torch.float64) * math.log(10)
    unit = inverse_norm_weights(logs, total="unit")
    assert [math.log10(w) for w in unit.tolist()] == pytest.approx(
        [-e - math.log10(2) for e in exponents], abs=1e-10
    )
    keep = inverse_norm_weights(logs, total="keep")
    assert (keep.log() + logs).tolist() == pytest.approx(
        [torch.logsumexp(logs, 0).item() - math.log(2)] * 2, rel=1e-12, abs=1e-9
    )


def test_keep_is_exactly_one_where_nothing_tells_the_tasks_apart():
    alike = torch.full((3,), 0.7)
    assert inverse_norm_weights(alike, total="keep").tolist() == [1.0] * 3
    assert inverse_norm_weights(LOGS, total="keep", alpha=0.0).tolist() == [1.0] * 3


def test_unknown_totals_are_refused():
    with pytest.raises(UserError, match=r"`total` should be a number or one of .*Found 'units'"):
        inverse_norm_weights(LOGS, total="units")
    with pytest.raises(UserError, match=r"`total` should be one of .*'unit'.*Found 'units'"):
        DAOLoss(TASKS, source="rep", total="units")


@pytest.mark.parametrize("which", [["reg"], ["cls", "reg"]])
@pytest.mark.parametrize("total", ["keep", "unit"])
def test_what_a_change_of_scale_does_to_weighted_losses(toy, make_batch, total, which):
    """Unit: nothing at all. Keep: it multiplies all by the change of the summed norms."""
    scales = [1e-30, 1e-4, 1.0, 1e4, 1e30]
    balances = [DAOLoss(TASKS, params=toy.double().shared(), total=total) for _ in scales]
    for seed in range(6):
        x, label, score = make_batch(seed=seed)
        losses = toy.losses(toy.encoder(x.double()), label, score.double())
        rows, wholes = [], []
        for balance, scale in zip(balances, scales, strict=True):
            given = {t: loss * scale if t in which else loss for t, loss in losses.items()}
            lam = balance.weights(given)
            rows.append([(lam[t] * given[t]).item() for t in TASKS])
            plain, weighted = sizes(balance)
            assert weighted == pytest.approx(plain if total == "keep" else 1.0, rel=1e-12)
            wholes.append(weighted)
        for row, whole in zip(rows, wholes, strict=True):
            factor = whole / wholes[2]
            assert row == pytest.approx([factor * value for value in rows[2]], rel=1e-9)


def test_keep_never_falls_below_the_other_tasks_and_a_fixed_sum_does(toy, losses):
    small = losses | {"reg": losses["reg"] * 1e-6}
    for total, least, most in (("keep", 1.0, 1.1), ("tasks", 0.0, 1e-4)):
        balance = DAOLoss(TASKS, params=toy.shared(), total=total)
        balance.weights(small)
        _, weighted = sizes(balance)
        assert least < weighted / balance.telemetry()["cls"]["norm"] < most


def test_alpha_below_one_still_makes_the_sum_of_weighted_norms_one(toy, losses):
    for scale in (1e-4, 1.0, 1e4):
        balance = DAOLoss(TASKS, params=toy.shared(), total="unit", alpha=0.5)
        balance.weights(losses | {"reg": losses["reg"] * scale})
        assert sizes(balance)[1] == pytest.approx(1)


def test_unit_counts_running_means_and_not_the_norms_of_the_batch(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), total="unit", refresh_every=1)
    for seed in range(5):
        x, label, score = make_batch(seed=seed)
        balance.weights(toy.losses(toy.encoder(x), label, score))
    assert sizes(balance)[1] == pytest.approx(1, rel=1e-12)
    rows = balance.telemetry().values()
    assert sum(row["weight"] * row["norm"] for row in rows) != pytest.approx(1, rel=1e-3)


def test_an_absent_task_keeps_its_part_of_the_unit_or_gives_it_away(toy, losses):
    parts = {}
    for absent in ("hold", "renormalize"):
        balance = DAOLoss(TASKS, params=toy.shared(), total="unit", absent=absent)
        balance.weights(losses)
        balance.weights({"reg": losses["reg"]})
        row = balance.telemetry()["reg"]
        parts[absent] = row["weight"] * row["norm"]
        assert row["share"] == 1
    assert parts == pytest.approx({"hold": 0.5, "renormalize": 1.0})


@pytest.mark.parametrize(("total", "expected"), [("unit", 0.5), ("keep", 1.0)])
def test_a_task_that_was_never_measured_counts_as_average(toy, losses, total, expected):
    untried = DAOLoss(TASKS, params=toy.shared(), total=total).eval()
    # Before the first measurement every norm counts as 1.
    assert untried.weights(losses)["cls"].item() == pytest.approx(expected)
    balance = DAOLoss(TASKS, params=toy.shared(), total=total)
    alone = balance.weights({"cls": losses["cls"]})["cls"].item()
    norm = balance.telemetry()["cls"]["norm"]
    assert alone * norm == pytest.approx(0.5 if total == "unit" else norm)


def trained(total, scale):
    """Flat parameters of a two-task trunk after SGD with momentum; one loss is scaled."""
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(8, 1) for _ in TASKS)
    everything = [*trunk.parameters(), *heads.parameters()]
    start = torch.cat([p.detach().flatten() for p in everything])
    x, truth = torch.randn(64, 5, generator=generator), torch.randn(5, 2, generator=generator)
    optimizer = torch.optim.SGD(everything, lr=0.1, momentum=0.9)
    balance = DAOLoss(TASKS, params=trunk.parameters(), total=total, refresh_every=5)
    for step in range(30):
        rows = x[step % 4 :: 4]
        z, y = trunk(rows), (rows @ truth).sin()
        errors = [(h(z)[:, 0] - y[:, k]).square().mean() for k, h in enumerate(heads)]
        balance({"cls": errors[0], "reg": scale * errors[1]}).backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in everything]) - start


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1e2, 1e4])
def test_with_unit_sgd_trains_alike_at_every_scale_of_a_loss(scale):
    torch.testing.assert_close(trained("unit", scale), trained("unit", 1.0), rtol=1e-4, atol=1e-5)


def test_with_a_fixed_sum_sgd_stands_still_where_a_loss_is_tiny():
    moved = trained("tasks", 1e-4).norm() / trained("tasks", 1.0).norm()
    assert moved < 0.01
    kept = trained("keep", 1e-4).norm() / trained("keep", 1.0).norm()
    assert 0.2 < kept < 5


def test_weights_have_no_bound_unless_one_is_set():
    assert DAOLoss(TASKS, source="rep").max_ratio is None


def test_between_measurements_no_total_and_no_bound_waits_for_the_device(toy, losses, monkeypatch):
    """Each reading of a tensor by Python would be a wait if the state were on an accelerator."""
    readings = []
    for name in ("tolist", "item", "__bool__", "__int__", "__float__"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, name=name, original=original):
            readings.append(name)
            return original(tensor)

        monkeypatch.setattr(torch.Tensor, name, counted)
    found = {}
    for total, bound in (("tasks", None), ("tasks", 1.001), ("keep", 1.001), ("unit", 1.001)):
        balance = DAOLoss(TASKS, params=toy.shared(), total=total, max_ratio=bound)
        for step in range(4):
            readings.clear()
            if step == 3:
                balance.weights(losses)
                assert not balance.measured
                found[total, bound] = list(readings)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    balance.weights(losses)
    assert len({tuple(names) for names in found.values()}) == 1
