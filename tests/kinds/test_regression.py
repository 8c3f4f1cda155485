import json
import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from dao.errors import UserError
from dao.learner.kinds.recorded import restored_tasks
from dao.learner.kinds.regression import Regression


def test_encode_keeps_the_unit_and_marks_missing():
    targets = Regression("reg", "score", mean=5.0, sd=2.0).encode(["1.5", None, -2, " "])
    assert targets.dtype == torch.float32
    assert targets[[0, 2]].tolist() == [1.5, -2.0]
    assert Regression("reg", "score").labelled(targets).tolist() == [True, False, True, False]


def test_decimals_are_numbers():
    assert Regression.parse(Decimal("0.25")) == 0.25


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "good", "1,5", math.nan, True, [1.0]])
def test_encode_refuses_what_is_no_number(value):
    with pytest.raises(UserError, match=r"`grade` should be a finite number.*in row 2"):
        Regression("reg", "grade").encode([0.5, value])


def test_fit_takes_mean_and_sd_of_the_training_rows(fitted):
    task = fitted("reg", [1.0, 3.0, None, 99.0], "tr tr tr te")
    assert (task.mean, task.sd) == (2.0, 1.0)
    plain = fitted("reg", [1.0, 3.0], standardize=False)
    assert (plain.mean, plain.sd) == (0.0, 1.0)


def test_loss_is_the_squared_error_of_the_scaled_target():
    task = Regression("reg", "score", mean=2.0, sd=4.0, scale=10.0)
    outputs, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([2.0, 6.0])
    # (2 - 2) / 4 * 10 = 0 and (6 - 2) / 4 * 10 = 10
    assert task.loss(outputs, targets).item() == pytest.approx((1.0 + 100.0) / 2)


def test_scale_multiplies_the_loss_and_leaves_predictions_alone():
    targets = torch.tensor([1.0, 3.0])
    for scale in (1.0, 10.0):
        task = Regression("reg", "score", mean=2.0, sd=1.0, scale=scale)
        outputs = torch.tensor([[0.0], [scale]])
        assert task.loss(outputs, targets).item() == pytest.approx(scale**2 / 2)
        assert task.predict(outputs) == {"reg": [2.0, 3.0]}


def test_loss_of_one_row_is_a_scalar():
    loss = Regression("reg", "score").loss(torch.tensor([[2.0]]), torch.tensor([0.0]))
    assert loss.shape == ()
    assert loss.item() == 4.0


def test_metrics_by_hand():
    task = Regression("reg", "score")
    outputs = torch.tensor([[1.0], [2.0], [2.0], [9.0]])
    metrics = task.metrics(outputs, torch.tensor([1.0, 2.0, 3.0, math.nan]))
    assert metrics["n"] == 3
    assert metrics["mse"] == pytest.approx(1 / 3)
    assert metrics["mae"] == pytest.approx(1 / 3)
    assert metrics["r2"] == pytest.approx(1 - 1 / 2)
    assert metrics["cosine"] == pytest.approx(11 / math.sqrt(9 * 14))
    assert metrics["pearson"] == pytest.approx(1 / math.sqrt(2 / 3 * 2))
    assert task.score(metrics) == metrics["r2"]
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_constant_predictions_have_no_correlation(constant):
    metrics = Regression("reg", "score").compare(np.full(3, constant), np.array([1.0, 2.0, 6.0]))
    assert metrics["pearson"] == 0.0
    assert metrics["r2"] < 0


@pytest.mark.parametrize("scores", [[0.4], [0.4, 0.4, 0.4]])
def test_r2_is_undefined_without_variance(scores):
    task = Regression("reg", "score")
    metrics = task.metrics(torch.full((len(scores), 1), 0.5), torch.tensor(scores))
    assert metrics["mse"] == pytest.approx(0.01)
    assert metrics["r2"] is None
    assert task.score(metrics) is None
    assert metrics["pearson"] == 0.0
    json.dumps(metrics, allow_nan=False)


def test_metrics_without_any_score():
    task = Regression("reg", "score")
    metrics = task.metrics(torch.ones(1, 1), torch.tensor([math.nan]))
    assert metrics == {"n": 0}
    assert task.score(metrics) is None


def test_fit_refuses_no_scores(fitted):
    with pytest.raises(UserError, match=r"`score` should have scores .* Found none.*reg\.column="):
        fitted("reg", [None, 1.0], "tr te")


def test_fit_refuses_equal_scores(fitted):
    with pytest.raises(UserError, match=r"`score` should vary .* Found 0\.5 in all 2 rows"):
        fitted("reg", [0.5, 0.5])


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf])
def test_fit_refuses_a_scale_that_is_not_positive(fitted, scale):
    with pytest.raises(ValueError, match=r"`reg\.scale`: Input should be .*\. Found"):
        fitted("reg", [0.0, 1.0], scale=scale)


def test_state_survives_json(fitted):
    task = fitted("reg", [0.0, 1.0, 4.0], scale=3.0)
    again = restored_tasks({"reg": json.loads(json.dumps(task.to_dict()))})["reg"]
    assert again.to_dict() == task.to_dict()
    outputs = torch.tensor([[0.3]])
    assert again.predict(outputs) == task.predict(outputs)


def test_half_precision_outputs_are_accepted():
    task = Regression("reg", "score", mean=1.0)
    assert task.loss(torch.ones(2, 1, dtype=torch.bfloat16), torch.tensor([2.0, 2.0])).item() == 0.0
    assert task.predict(torch.ones(1, 1, dtype=torch.bfloat16)) == {"reg": [2.0]}
