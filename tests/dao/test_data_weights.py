import pytest
import torch
from torch.nn import functional as F

from dao import (
    DAOLoss,
    UserError,
    balanced_thresholds,
    class_balanced_weights,
    label_density_weights,
    weighted_loss,
)


@pytest.mark.parametrize("clip", [(0.1, 10.0), (0.7, 1.4), (1.0, 1.0)])
def test_class_weights_have_sample_mean_one_and_stay_within_the_clip(clip):
    labels = torch.cat([torch.zeros(500), torch.ones(40), torch.full((3,), 2)]).long()
    table = class_balanced_weights(torch.bincount(labels), clip=clip)
    assert table[labels].mean().item() == pytest.approx(1, abs=1e-12)
    assert clip[0] <= table.min() <= table.max() <= clip[1]
    assert table.tolist() == sorted(table.tolist())


def test_class_weights_follow_the_formula_where_nothing_is_clipped():
    counts = torch.tensor([30, 10])
    raw = torch.tensor([(1 - 0.9) / (1 - 0.9**n) for n in (30, 10)], dtype=torch.float64)
    expected = raw * 40 / (raw * counts).sum()
    torch.testing.assert_close(class_balanced_weights(counts, beta=0.9), expected)


def test_even_classes_and_beta_zero_weigh_one():
    for counts, beta in (([7, 7, 7], 0.999), ([100, 1], 0.0)):
        weights = class_balanced_weights(torch.tensor(counts), beta=beta)
        torch.testing.assert_close(weights, torch.ones_like(weights))


def test_a_class_without_samples_gets_a_finite_weight():
    weights = class_balanced_weights(torch.tensor([90, 10, 0]))
    assert weights[2] > weights[1] > weights[0]
    assert weights[2] <= 10


def test_even_targets_weigh_one_and_rare_ones_more():
    even = label_density_weights(torch.linspace(-1, 1, 410, dtype=torch.float64))
    torch.testing.assert_close(even, torch.ones_like(even), rtol=0.02, atol=0)
    targets = torch.cat([torch.zeros(200), torch.linspace(-1, 1, 21)])
    weights = label_density_weights(targets)
    assert weights.mean().item() == pytest.approx(1, abs=1e-12)
    assert weights[202] > weights[208] > weights[0]
    assert weights.min() >= 0.1
    assert weights.max() <= 10


def test_missing_targets_weigh_nothing_and_one_value_weighs_one():
    weights = label_density_weights(torch.tensor([2.0, float("nan"), 2.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))


def test_a_batch_splits_into_loss_and_data_weight():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    table = class_balanced_weights(torch.bincount(labels)).float()
    values = F.cross_entropy(logits, labels, reduction="none")
    loss, weight = weighted_loss(values, table[labels])
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, weight=table))
    torch.testing.assert_close(loss * weight, (table[labels] * values).mean())


def test_a_data_weight_does_not_cancel(toy, losses):
    plain = DAOLoss(["cls", "reg"], params=toy.shared())
    weighted = DAOLoss(["cls", "reg"], params=toy.shared())
    total, heavier = plain(losses), weighted(losses, {"reg": torch.tensor(3.0)})
    lam = plain.telemetry()["reg"]["weight"]
    assert weighted.telemetry()["reg"]["weight"] == lam
    assert (heavier - total).item() == pytest.approx(2 * lam * losses["reg"].item(), rel=1e-5)


def test_thresholds_balance_and_repeat():
    scores = torch.randn(999).tanh()
    cuts = balanced_thresholds(scores, 5)
    assert torch.equal(cuts, balanced_thresholds(scores[torch.randperm(999)], 5))
    counts = torch.bincount(torch.bucketize(scores.double(), cuts))
    assert counts.max() - counts.min() <= 2


def test_ties_share_a_class_and_every_class_is_used():
    scores = torch.cat(
        [torch.zeros(90), torch.tensor([-1.0, -0.5, 0.5, 1.0]), torch.tensor([torch.nan])]
    )
    cuts = balanced_thresholds(scores, 4)
    assert (cuts.diff() > 0).all()
    counts = torch.bincount(torch.bucketize(scores[:-1].double(), cuts), minlength=4)
    assert (counts > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_balanced_weights(torch.tensor([1]), beta=1.0), "`beta` should be in"),
        (lambda: class_balanced_weights(torch.zeros(3)), "`counts` should be"),
        (lambda: class_balanced_weights(torch.tensor([1, 2]), clip=(2, 3)), "`clip` should be"),
        (lambda: label_density_weights(torch.ones(3), bins=0), "`bins` should be"),
        (lambda: label_density_weights(torch.tensor([torch.nan])), "`targets` should hold"),
        (lambda: balanced_thresholds(torch.zeros(9), 2), "`classes` should be"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UserError, match=message):
        call()
