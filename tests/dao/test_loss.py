import math
import warnings

import pytest
import torch
from torch import nn

from dao import DAOLoss, UserError

TASKS = ["cls", "reg"]


def norms_of(losses, parameters):
    """Float64 reference, one task after the other."""
    found = {}
    for task, loss in losses.items():
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        found[task] = torch.cat([g.double().flatten() for g in gradients]).norm().item()
    return found


def weights_of(balance):
    return {task: row["weight"] for task, row in balance.telemetry().items()}


def test_first_step_is_the_inverse_norm_rule(toy, losses):
    n = norms_of(losses, toy.shared())
    balance = DAOLoss(TASKS, params=toy.shared())
    total = balance(losses)
    expected = {t: (n["cls"] + n["reg"]) / 2 / n[t] for t in TASKS}
    assert weights_of(balance) == pytest.approx(expected, rel=1e-6)
    value = sum(expected[t] * losses[t].item() for t in TASKS)
    assert total.item() == pytest.approx(value, rel=1e-6)
    for task, row in balance.telemetry().items():
        assert row["loss"] == pytest.approx(losses[task].item())
        assert row["norm"] == pytest.approx(n[task], rel=1e-6)
        assert row["share"] == pytest.approx(0.5, rel=1e-6)


def test_paper_preset_is_the_published_formula_at_every_step(toy, make_batch):
    balance = DAOLoss.paper(TASKS, toy.shared())
    for seed in range(4):
        x, label, score = make_batch(seed=seed)
        losses = toy.losses(toy.encoder(x), label, score)
        n = norms_of(losses, toy.shared())
        whole = n["cls"] + n["reg"]
        balance(losses).backward()
        assert balance.measured
        expected = {"cls": n["reg"] / whole, "reg": n["cls"] / whole}
        assert weights_of(balance) == pytest.approx(expected, rel=1e-6)
        assert weights_of(balance).keys() == balance.last.keys()


def test_gradient_is_the_weighted_sum_with_constant_weights(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    total = balance(losses, {"cls": 0.5})
    lam = weights_of(balance)
    fixed = 0.5 * lam["cls"] * losses["cls"] + lam["reg"] * losses["reg"]
    everything = list(toy.parameters())
    expected = torch.autograd.grad(fixed, everything, retain_graph=True)
    for got, want in zip(torch.autograd.grad(total, everything), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_weighted_gradients_have_equal_norms_for_three_tasks(toy, losses):
    losses |= {"sum": 1e3 * (losses["cls"] * losses["reg"])}
    balance = DAOLoss(list(losses), params=toy.shared())
    lam = balance.weights(losses)
    n = norms_of({t: lam[t] * loss for t, loss in losses.items()}, toy.shared())
    assert list(n.values()) == pytest.approx([n["cls"]] * 3, rel=1e-6)
    whole = norms_of(losses, toy.shared())
    assert sum(n.values()) == pytest.approx(sum(whole.values()), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_the_scale_of_a_loss_does_not_matter(toy, make_batch, scale):
    plain = DAOLoss(TASKS, params=toy.shared(), refresh_every=3, max_ratio=None)
    scaled = DAOLoss(TASKS, params=toy.shared(), refresh_every=3, max_ratio=None)
    for seed in range(7):
        x, label, score = make_batch(seed=seed)
        losses = toy.losses(toy.encoder(x), label, score)
        one = plain.weights(losses)
        two = scaled.weights(losses | {"reg": losses["reg"] * scale})
        ratio = (two["reg"] * scale / two["cls"]) / (one["reg"] / one["cls"])
        assert ratio.item() == pytest.approx(1, rel=1e-5)


def test_renaming_and_reordering_change_nothing(toy, losses):
    losses |= {"third": losses["cls"].square()}
    plain = DAOLoss(list(losses), params=toy.shared()).weights(losses)
    names = {"third": "c", "cls": "b", "reg": "a"}
    other = DAOLoss(list(names.values()), params=toy.shared())
    renamed = other.weights({names[t]: loss for t, loss in losses.items()})
    assert {t: plain[t].item() for t in names} == {t: renamed[n].item() for t, n in names.items()}


@pytest.mark.parametrize("total", ["tasks", "one"])
def test_a_single_task_weighs_exactly_one(toy, losses, total):
    balance = DAOLoss(["cls"], params=toy.shared(), total=total)
    assert balance({"cls": losses["cls"]}).item() == losses["cls"].item()
    assert weights_of(balance) == {"cls": 1.0}


@pytest.mark.parametrize("absent", ["hold", "renormalize"])
def test_alpha_zero_is_plain_addition_with_the_same_telemetry(toy, losses, absent):
    control = DAOLoss(TASKS, params=toy.shared(), alpha=0.0, absent=absent)
    assert control(losses).item() == (losses["cls"] + losses["reg"]).item()
    assert weights_of(control) == {"cls": 1.0, "reg": 1.0}
    assert all(row["norm"] > 0 for row in control.telemetry().values())
    assert control({"reg": losses["reg"]}).item() == losses["reg"].item()
    assert weights_of(control) == {"reg": 1.0}


def test_refresh_schedule_and_frozen_weights_between(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=6)
    measured, seen = [], []
    for step in range(14):
        x, label, score = make_batch(seed=step)
        seen.append(balance.weights(toy.losses(toy.encoder(x), label, score))["cls"].item())
        if balance.measured:
            measured.append(step)
    assert measured == [0, 1, 4, 6, 12]
    for step in (2, 3, 5, 7, 8, 9, 10, 11, 13):
        assert seen[step] == seen[step - 1]
    assert len(set(seen)) == len(measured)


def test_rare_refresh_equals_every_step_when_norms_are_constant(toy, losses):
    often = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    rare = DAOLoss(TASKS, params=toy.shared(), refresh_every=5)
    for _ in range(12):
        assert torch.equal(often.weights(losses)["cls"], rare.weights(losses)["cls"])


def test_accumulation_freezes_weights_within_a_window(toy, make_batch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=2, accumulate=3)
    seen, measured = [], []
    for micro in range(18):
        x, label, score = make_batch(seed=micro)
        seen.append(balance.weights(toy.losses(toy.encoder(x), label, score))["cls"].item())
        measured.append(balance.measured)
    windows = [seen[i : i + 3] for i in range(0, 18, 3)]
    assert all(len(set(window)) == 1 for window in windows)
    assert len({window[0] for window in windows}) > 3
    assert [measured[i] for i in range(0, 18, 3)] == [True, True, True, False, True, False]
    assert all(len(set(measured[i : i + 3])) == 1 for i in range(0, 18, 3))
    assert balance.state.ema == pytest.approx(0.9 ** (1 / 3))


def test_priors_and_max_ratio(toy, losses):
    plain = DAOLoss(TASKS, params=toy.shared()).weights(losses)
    tilted = DAOLoss(TASKS, params=toy.shared(), priors={"reg": 4.0}).weights(losses)
    ratio = (tilted["reg"] / tilted["cls"]) / (plain["reg"] / plain["cls"])
    assert ratio.item() == pytest.approx(4)
    with pytest.warns(UserWarning, match="`max_ratio=10` holds the weight of reg up"):
        bounded = DAOLoss(TASKS, params=toy.shared(), max_ratio=10).weights(
            losses | {"reg": losses["reg"] * 1e6}
        )
    assert (bounded["cls"] / bounded["reg"]).item() == pytest.approx(10)


def test_hold_keeps_and_renormalize_shares_the_weights(toy, losses):
    for absent, expected in (("hold", None), ("renormalize", 1.0)):
        balance = DAOLoss(TASKS, params=toy.shared(), absent=absent, refresh_every=100)
        before = [balance.weights(losses)["reg"].item() for _ in range(4)][-1]
        alone = balance.weights({"reg": losses["reg"], "cls": None})
        assert {t: w.item() for t, w in alone.items()} == {"reg": expected or before}


@pytest.mark.parametrize("missing", [None, "constant", "nan", "inf", "left out"])
def test_a_task_that_does_not_count_leaves_no_trace(toy, losses, missing):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    balance.weights(losses)
    held = balance.state.log_ema.clone()
    values = {
        None: None,
        "constant": torch.tensor(3.0),
        "nan": losses["reg"] * torch.nan,
        "inf": losses["reg"] / 0,
    }
    given = {"cls": losses["cls"]} | ({"reg": values[missing]} if missing in values else {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        balance(given).backward(retain_graph=True)
        balance(given)
    assert len(caught) == (missing in ("nan", "inf", "constant"))
    assert balance.state.dropped.tolist() == [0, 2 * (missing in ("nan", "inf"))]
    assert balance.state.log_ema[1] == held[1]
    assert balance.state.count.tolist() == [3, 1]
    assert set(balance.last) == {"cls"}
    assert all(torch.isfinite(p.grad).all() for p in toy.shared())


def test_a_broken_gradient_behind_a_finite_loss_is_left_out(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    cliff = (losses["reg"] - losses["reg"].detach()).abs().sqrt()
    with pytest.warns(UserWarning, match=r"gradient of \['reg'\]"):
        balance(losses | {"reg": cliff}).backward()
    assert set(balance.telemetry()) == {"cls"}
    assert balance.state.count.tolist() == [1, 0]
    assert all(torch.isfinite(p.grad).all() for p in toy.shared())


def test_parameters_that_a_task_never_reaches_are_told_once():
    shared, own = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    balance = DAOLoss(["cls", "reg"], params=[own], refresh_every=1)

    def train(steps: int) -> None:
        for _ in range(steps):
            balance({"cls": own.sum() + shared.sum(), "reg": shared.square().sum()})

    with pytest.warns(UserWarning, match="'reg' does not depend on `params`") as told:
        train(20)
    assert len(told) == 1


def test_a_zero_gradient_does_not_move_the_state_and_its_head_still_learns(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    balance.weights(losses)
    held = balance.state.log_ema.clone()
    with pytest.warns(UserWarning, match="'reg' at `params` is exactly zero in this batch"):
        balance(losses | {"reg": losses["reg"] * 0}).backward(retain_graph=True)
    assert balance.state.log_ema[1] == held[1]
    assert balance.state.count.tolist() == [2, 1]
    assert (
        balance.telemetry()["reg"] | {"loss": 0.0, "norm": 0.0, "share": 0.0}
        == (balance.telemetry()["reg"])
    )
    with torch.no_grad():
        for p in toy.heads["reg"].parameters():
            p.zero_()
    fresh = DAOLoss(TASKS, params=toy.shared())
    x = torch.randn(8, 4)
    start = toy.losses(toy.encoder(x), torch.zeros(8).long(), torch.ones(8))
    toy.zero_grad()
    fresh(start).backward()
    assert weights_of(fresh) == {"cls": 1.0, "reg": 1.0}
    assert toy.heads["reg"].bias.grad.abs().item() > 0


def test_a_task_seen_for_the_first_time_counts_as_average(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    assert balance.weights({"cls": losses["cls"]})["cls"].item() == 1.0
    both = balance.weights(losses)
    expected = DAOLoss(TASKS, params=toy.shared()).weights(losses)
    assert both["reg"].item() == pytest.approx(expected["reg"].item())


def test_nothing_usable_is_a_clear_error(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    with pytest.raises(UserError, match=r"usable loss for one of \['cls', 'reg'\]"):
        balance({"cls": None, "reg": torch.tensor(1.0)})
    with pytest.warns(UserWarning, match="NaN"), pytest.raises(UserError, match="look for NaN"):
        balance({"cls": losses["cls"] * torch.nan})
    assert balance.state.step.item() == 0


@pytest.mark.parametrize("switch", ["eval", "no_grad"])
def test_without_training_the_held_weights_are_applied_and_nothing_moves(toy, losses, switch):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=1)
    lam = balance.weights(losses)
    before = {name: value.clone() for name, value in balance.state_dict().items()}
    rows = balance.telemetry()
    if switch == "eval":
        balance.eval()
        value = balance(losses, {"cls": 2.0})
    else:
        with torch.no_grad():
            value = balance(losses, {"cls": 2.0})
    expected = 2 * lam["cls"] * losses["cls"] + lam["reg"] * losses["reg"]
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, kept in balance.state_dict().items():
        torch.testing.assert_close(kept, before[name], rtol=0, atol=0, equal_nan=True)
    assert balance.telemetry() == rows


def test_evaluation_before_training_is_a_plain_sum():
    balance = DAOLoss(TASKS, source="rep").eval()
    assert balance({"cls": torch.tensor(1.0), "reg": torch.tensor(2.5)}).item() == 3.5
    assert balance.telemetry() == {}


def test_telemetry_is_nan_for_what_was_never_measured(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared())
    for _ in range(5):
        balance.weights(losses)
    balance.state.norm[1] = torch.nan
    balance.weights(losses)
    assert not balance.measured
    assert math.isnan(balance.telemetry()["reg"]["norm"])
    assert math.isnan(balance.telemetry()["reg"]["share"])
    assert balance.telemetry()["cls"]["share"] == 1


def test_alternating_batches_measure_each_task_on_its_own_schedule(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared(), refresh_every=4)
    measured = []
    for step in range(20):
        task = TASKS[step % 2]
        balance.weights({task: losses[task]})
        measured.append(balance.measured)
    assert balance.state.count.tolist() == [4, 4]
    assert measured[::2] == measured[1::2] == [n in (0, 1, 4, 8) for n in range(10)]
    together = DAOLoss(TASKS, params=toy.shared()).weights(losses)
    assert balance.weights(losses)["reg"].item() == pytest.approx(together["reg"].item())


def test_parameters_of_a_growing_model_are_asked_for_again(toy, make_batch):
    extra = nn.Linear(4, 6)
    shared = toy.shared()
    balance = DAOLoss(TASKS, params=lambda: shared, refresh_every=1)
    x, label, score = make_batch()
    balance.weights(toy.losses(toy.encoder(x), label, score))
    small = balance.telemetry()["cls"]["norm"]
    shared += extra.parameters()
    grown = toy.losses(toy.encoder(x) + extra(x), label, score)
    balance.weights(grown)
    n = norms_of(grown, shared)
    assert balance.telemetry()["cls"]["norm"] == pytest.approx(n["cls"], rel=1e-6) != small


def test_last_block_and_calibration(toy, losses):
    last = DAOLoss(TASKS, source="last", module=toy.encoder[2])
    n = norms_of(losses, list(toy.encoder[2].parameters()))
    last.weights(losses)
    assert last.telemetry()["reg"]["norm"] == pytest.approx(n["reg"], rel=1e-6)
    assert not list(last.parameters())
    exact = DAOLoss(TASKS, params=toy.shared()).weights(losses)
    calibrated = DAOLoss(
        TASKS, source="last", module=toy.encoder[2], params=toy.shared(), calibrate_every=5
    )
    got = calibrated.weights(losses)
    assert got["reg"].item() == pytest.approx(exact["reg"].item(), rel=1e-9)
    assert got["reg"].item() != pytest.approx(last.weights(losses)["reg"].item(), rel=1e-3)
    assert calibrated.telemetry()["reg"]["share"] == pytest.approx(0.5)
    for _ in range(5):  # the comparison at step 5, where no measurement is due, makes its own
        calibrated.weights(losses)
    assert calibrated.state.offset_count.tolist() == [2, 2]
    assert calibrated.measured


def test_reset_forgets_everything_but_the_priors(toy, losses):
    balance = DAOLoss(TASKS, params=toy.shared(), priors={"cls": 2.0}, refresh_every=1)
    first = balance.weights(losses)["cls"]
    balance.weights({t: 3 * loss.square() for t, loss in losses.items()})
    balance.reset()
    assert balance.telemetry() == {}
    assert not balance.measured
    assert torch.equal(balance.weights(losses)["cls"], first)


def test_half_precision_losses_are_summed_in_float32(toy, losses):
    total = DAOLoss(TASKS, params=toy.shared())({t: x.bfloat16() for t, x in losses.items()})
    assert total.dtype == torch.float32


def test_repr_shows_the_options():
    text = repr(DAOLoss(TASKS, source="rep", alpha=0.5))
    assert "['cls', 'reg'], source='rep', alpha=0.5, ema=0.9" in text


def test_resume_in_the_middle_continues_bitwise(toy, make_batch):
    def steps(balance, seeds):
        found = []
        for seed in seeds:
            x, label, score = make_batch(seed=seed)
            found.append(balance.weights(toy.losses(toy.encoder(x), label, score))["cls"].item())
        return found

    options = {"params": toy.shared(), "refresh_every": 3, "accumulate": 2}
    whole = DAOLoss(TASKS, **options)
    expected = steps(whole, range(16))
    first, second = DAOLoss(TASKS, **options), DAOLoss(TASKS, **options)
    steps(first, range(7))
    second.load_state_dict(first.state_dict())
    assert steps(second, range(7, 16)) == expected[7:]
