"""Focal loss, label smoothing and class weights, against figures from paper and pencil."""

import json
import math

import pytest
import torch
from torch.nn import functional

from dao.errors import UserError
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.parts.class_losses import class_weights, focal_loss
from dao.learner.kinds.recorded import restored_tasks

FINNF = {"bullish": 775905, "neutral": 635353, "bearish": 215034}  # rows of FinSA-MoE's news
LOGITS = [[2.0, -1.0, 0.5], [0.1, 0.0, -0.3], [-2.0, 3.0, 1.0], [0.0, 0.0, 4.0]]
TARGETS = [0, 2, 1, 0]


def reference(logits, targets, gamma, weights, smoothing):
    """The formula row by row, in Python's own floats."""
    total = below = 0.0
    for row, target in zip(logits, targets, strict=True):
        powers = [math.exp(x) for x in row]
        p = [x / sum(powers) for x in powers]
        spread = [smoothing / len(p)] * len(p)
        spread[target] += 1 - smoothing
        # torch weighs each class of a smoothed target by its own weight.
        term = -sum(q * w * math.log(x) for q, w, x in zip(spread, weights, p, strict=True))
        total += (1 - p[target]) ** gamma * term
        below += weights[target]
    return total / below


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 2.0, 1.5]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_row_by_row(gamma, weights, smoothing):
    outputs = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    targets, weight = torch.tensor(TARGETS), torch.tensor(weights, dtype=torch.float64)
    options = {"gamma": gamma, "weight": weight, "label_smoothing": smoothing}
    loss = focal_loss(outputs, targets, **options)
    expected = reference(LOGITS, TARGETS, gamma, weights, smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda o: focal_loss(o, targets, **options), outputs)


def test_gamma_zero_is_cross_entropy():
    outputs, targets = torch.tensor(LOGITS), torch.tensor(TARGETS)
    weight = torch.tensor([0.5, 2.0, 1.5])
    for options in ({}, {"weight": weight}, {"weight": weight, "label_smoothing": 0.2}):
        plain = functional.cross_entropy(outputs, targets, **options)
        assert focal_loss(outputs, targets, gamma=0.0, **options) == pytest.approx(plain.item())


def test_a_smoothed_row_is_discounted_by_the_probability_of_its_true_class():
    # p = (3/4, 1/4); smoothing 0.2 makes the target (0.9, 0.1).
    outputs = torch.log(torch.tensor([[0.75, 0.25]], dtype=torch.float64))
    smoothed = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    loss = focal_loss(outputs, torch.tensor([0]), gamma=2.0, label_smoothing=0.2)
    assert loss.item() == pytest.approx(0.25**2 * smoothed)
    assert loss.item() != pytest.approx((1 - math.exp(-smoothed)) ** 2 * smoothed, rel=0.1)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_row_that_is_certain_has_no_gradient_that_is_not_finite(gamma):
    outputs = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal_loss(outputs, torch.tensor([0, 0]), gamma=gamma).backward()
    assert outputs.grad.isfinite().all()
    assert outputs.grad[0].abs().max() == 0
    assert outputs.grad[1].abs().max() > 0.4


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("loss", ["ce", "focal"])
def test_parts_of_a_batch_make_the_whole_by_their_row_weights(loss, smoothing):
    task = Classification(
        "cls", "label", ["a", "b", "c"], [0.5, 2.0, 1.5], loss_kind=loss, label_smoothing=smoothing
    )
    outputs, targets = torch.tensor(LOGITS), torch.tensor(TARGETS)
    shares = [task.row_weights(targets[part]).sum() for part in (slice(1), slice(1, 4))]
    parts = [task.loss(outputs[part], targets[part]) for part in (slice(1), slice(1, 4))]
    whole = sum(s * p for s, p in zip(shares, parts, strict=True)) / sum(shares)
    assert whole.item() == pytest.approx(task.loss(outputs, targets).item())


def test_effective_weights_by_hand():
    # beta 1/2: (1/2) / (1 - 1/2) = 1 and (1/2) / (1 - 1/8) = 4/7; (1 + 3 * 4/7) / 4 = 19/28.
    weights = class_weights("effective", {"a": 1, "b": 3}, beta=0.5)
    assert weights == pytest.approx([28 / 19, 16 / 19])


def test_effective_weights_are_not_clipped():
    weights = class_weights("effective", {"a": 1, "b": 999_999}, beta=0.999999)
    assert weights[0] / weights[1] == pytest.approx(632120, rel=1e-3)


def notes_of(rows, fitted, **options):
    labels = [name for name, count in rows.items() for _ in range(count)]
    return fitted("cls", labels, **options).notes()


def test_weights_that_are_all_alike_are_named():
    weights = class_weights("effective", FINNF, beta=0.99)
    assert weights == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)
    task = Classification(
        "cls", "label", list(FINNF), weights, loss_kind="focal", label_smoothing=0.1
    )
    assert task.notes() == [
        "loss of cls: focal, gamma 2, label smoothing 0.1, class weights bullish 1, neutral 1, "
        "bearish 1",
        "warning: the class weights of cls are equal within 1 %, so they change nothing",
    ]
    larger = class_weights("effective", FINNF, beta=0.9999999)
    assert larger[2] / larger[0] > 3


def test_notes_are_silent_about_plain_cross_entropy(fitted):
    assert notes_of({"a": 3, "b": 1}, fitted) == []
    assert notes_of({"a": 3, "b": 1}, fitted, class_weights="balanced") == [
        "loss of cls: cross-entropy, class weights a 0.6667, b 2"
    ]
    assert notes_of({"a": 3, "b": 1}, fitted, loss="focal", focal_gamma=1.5) == [
        "loss of cls: focal, gamma 1.5"
    ]


def test_a_beta_out_of_range():
    with pytest.raises(UserError, match=r"`beta` should be in \[0, 1\)\. Found 1"):
        class_weights("effective", {"a": 1, "b": 2}, beta=1.0)


def test_a_run_of_before_loads():
    state = {"name": "cls", "column": "label", "classes": ["a", "b"], "class_weights": None}
    task = restored_tasks({"cls": state})["cls"]
    outputs, targets = torch.tensor([[1.0, 0.0], [3.0, 1.0]]), torch.tensor([0, 1])
    assert task.loss(outputs, targets) == functional.cross_entropy(outputs, targets)
    assert task.thresholds is None


def test_the_state_has_the_loss(fitted):
    options = {"loss": "focal", "focal_gamma": 1.5, "label_smoothing": 0.1}
    task = fitted("cls", ["a", "b", "b"], class_weights="effective", beta=0.9, **options)
    again = restored_tasks({"cls": json.loads(json.dumps(task.to_dict()))})["cls"]
    outputs, targets = torch.tensor([[1.0, 0.0], [3.0, 1.0]]), torch.tensor([0, 1])
    assert again.loss(outputs, targets) == task.loss(outputs, targets)
    assert again.to_dict() == task.to_dict()
