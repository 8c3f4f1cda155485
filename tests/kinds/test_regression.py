import json
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from dao.data_weights import label_density_weights
from dao.errors import UserError
from dao.learner.kinds.recorded import restored_tasks
from dao.learner.kinds.regression import Regression


def test_encode_keeps_the_unit_and_marks_missing():
    targets = Regression("reg", "score", mean=5.0, sd=2.0).encode(["1.5", None, -2, " "])
    assert targets.dtype == torch.float64
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
    with pytest.raises(ValueError, match=r"`reg\.scale` should be .*\. Found"):
        fitted("reg", [0.0, 1.0], scale=scale)


SECONDS = 1.7e9  # since 1970, where 32 bits tell two minutes apart


@pytest.mark.parametrize("values", [[0.0, 45.0, 90.0, 30.0], [-1e-6, 3e-6, 2e-6, 5e-6]])
def test_a_constant_added_to_the_targets_changes_what_is_learned_by_rounding_alone(fitted, values):
    unit = max(map(abs, values)) / 90
    moved = [value + SECONDS * unit for value in values]
    one, other = (fitted("reg", list(v)) for v in (values, moved))
    outputs = torch.tensor([[0.3], [-1.0], [0.9], [0.0]])
    losses = [t.loss(outputs, t.encode(v)) for t, v in ((one, values), (other, moved))]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    found = [t.metrics(outputs, t.encode(v)) for t, v in ((one, values), (other, moved))]
    for figure in ("r2", "pearson", "mse", "mae"):
        assert found[1][figure] == pytest.approx(found[0][figure], rel=1e-5)
    assert other.predict(outputs)["reg"][0] - SECONDS * unit == pytest.approx(
        one.predict(outputs)["reg"][0], rel=1e-5
    )


def test_loss_and_mse_of_large_numbers_by_hand():
    task = Regression("reg", "score", mean=SECONDS, sd=2.0)
    targets = task.encode([SECONDS - 1, SECONDS + 3])
    # z is -0.5 and 1.5; outputs of 0 predict the mean, one and three seconds off.
    assert task.loss(torch.zeros(2, 1), targets).item() == (0.25 + 2.25) / 2
    assert task.metrics(torch.zeros(2, 1), targets)["mse"] == (1 + 9) / 2


def test_scores_around_0_are_learned_to_the_bit_as_in_32_bits():
    task = Regression("reg", "score", mean=0.1056, sd=0.3517)
    scores = torch.linspace(-1, 1, 200, dtype=torch.float64).round(decimals=3)
    outputs = torch.linspace(-2, 2, 200)[:, None]
    expected = (scores.float() - 0.1056) / 0.3517
    loss = task.loss(outputs, scores)
    assert loss.item() == torch.nn.functional.mse_loss(outputs[:, 0], expected).item()


def test_baselines_do_not_depend_on_a_constant_added_to_the_targets():
    texts = [f"{word} {i % 5}" for i, word in enumerate(["up", "down", "flat"] * 10)]
    values = [{"up": 60.0, "down": -60.0, "flat": 0.0}[text.split()[0]] for text in texts]
    task = Regression("reg", "score")
    rows, moved = (texts, task.encode(values)), (texts, task.encode([v + SECONDS for v in values]))
    found, other = (task.baselines(part, part, part) for part in (rows, moved))
    for name, figures in found.items():
        assert other[name]["r2"] == pytest.approx(figures["r2"], abs=1e-5)
        assert other[name]["mse"] == pytest.approx(figures["mse"], rel=1e-5)


def test_correlation_of_tiny_numbers_counts():
    actual = np.array([1.0, 2.0, 6.0])
    metrics = Regression("reg", "score").compare(actual * 1e-12, actual * 1e-12)
    assert metrics["pearson"] == pytest.approx(1.0)
    constant = Regression("reg", "score").compare(np.full(3, SECONDS / 3), actual + SECONDS)
    assert constant["pearson"] == 0.0


def test_seconds_that_32_bits_hold_for_equal_are_learned_where_they_are_standardised(fitted):
    close = [SECONDS, SECONDS + 1, SECONDS + 2]
    task = fitted("reg", close)
    assert (task.mean, task.sd) == (SECONDS + 1, pytest.approx(math.sqrt(2 / 3)))
    with pytest.raises(UserError, match=r"should vary in 32 bits .*1700000000 to 1700000002"):
        fitted("reg", close, standardize=False)


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


SCORES = [1.0, 3.0, -2.0, 2.5, 2.0]
OUTPUTS = [[0.5], [-0.3], [2.0], [0.1], [0.75]]


def error_of(kind, difference):
    size = abs(difference)
    if kind == "huber":  # with delta 1: half the square up to 1, beyond it |d| - 1/2
        return difference**2 / 2 if size < 1 else size - 0.5
    return size if kind == "mae" else difference**2


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_losses_by_hand(agrees, kind, weighted):
    # Cells from -2 to 3 are [-2, -0.75), [-0.75, 0.5), [0.5, 1.75) and [1.75, 3].
    table = {"low": -2.0, "high": 3.0, "weights": [4.0, 9.0, 2.0, 0.5]}
    weights = [2.0, 0.5, 4.0, 0.5, 0.5] if weighted else [1.0] * 5
    task = Regression(
        "reg", "x", 1.0, 2.0, 3.0, loss_kind=kind, row_weight=table if weighted else None
    )

    def reference(rows):
        seen = [(y - 1.0) / 2.0 * 3.0 for y in SCORES]
        errors = [error_of(kind, z - y) for (z,), y in zip(rows, seen, strict=True)]
        return sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)

    agrees(task, OUTPUTS, torch.tensor(SCORES), reference)
    assert task.row_weights(torch.tensor([*SCORES, math.nan])).tolist() == [*weights, 0.0]


def skewed():
    generator = torch.Generator().manual_seed(0)
    # Steps of 0.01 lie on the borders of cells, where 32 and 64 bits may disagree.
    return [round(float(x), 2) for x in torch.rand(400, generator=generator) ** 3 * 4.1]


def test_weights_by_density_are_those_of_the_plug_in(fitted):
    scores = skewed()
    task = fitted("reg", scores, density=0.5)
    targets = task.encode(scores)
    expected = label_density_weights(targets.double(), gamma=0.5)
    assert torch.equal(task.row_weights(targets), expected)
    assert expected.max() / expected.min() > 3
    outputs = torch.zeros(400, 1)
    squares = ((targets.double() - task.mean) / task.sd) ** 2
    mean = (expected * squares).sum() / expected.sum()
    assert task.loss(outputs, targets).item() == pytest.approx(mean.item(), rel=1e-5)
    assert fitted("reg", scores).row_weight is None
    json.dumps(task.to_dict(), allow_nan=False)


def test_targets_that_training_never_shows_have_a_weight(fitted):
    task = fitted("reg", [0.0] * 50 + [0.1] * 50 + [10.0], density=1.0)
    inside, below, above = task.row_weights(torch.tensor([5.0, -99.0, 99.0])).tolist()
    rare = task.row_weights(torch.tensor([10.0])).item()
    assert inside == above == rare  # as rare as the rarest
    assert below == task.row_weights(torch.tensor([0.0])).item() < rare


def test_weights_by_density_of_missing_targets_disturb_nothing(fitted):
    task = fitted("reg", [0.0, 0.0, 0.0, 1.0], density=0.5)
    weights = task.row_weights(torch.tensor([math.nan, 0.0, 1.0]))
    assert weights[0] == 0
    assert 0 < weights[1] < weights[2]


def test_spearman_is_pearson_of_ranks():
    predicted, actual = np.array([0.1, 0.4, 0.4, 9.0]), np.array([1.0, 3.0, 2.0, 4.0])
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4 have covariance 4.5 and variances 4.5 and 5.
    found = Regression("reg", "x").compare(predicted, actual)
    assert found["spearman"] == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert found["spearman"] == pytest.approx(spearmanr(predicted, actual).statistic)
    assert Regression("reg", "x").compare(np.zeros(4), actual)["spearman"] == 0.0
    assert Regression("reg", "x").compare(predicted[:1], actual[:1])["spearman"] == 0.0


def test_which_figures_are_shown_follows_the_settings(fitted):
    assert fitted("reg", [0, 1]).headline == [("r2", "↑"), ("mse", "↓")]
    shown = fitted("reg", [0, 1], show=["spearman", "mae"])
    assert shown.headline == [("spearman", "↑"), ("mae", "↓")]
    assert [figure["key"] for figure in shown.described()["figures"]] == ["spearman", "mae"]
    assert fitted("reg", [0, 1], show="mae").headline == [("mae", "↓")]
    with pytest.raises(ValueError, match=r"`reg\.show` .*regression: r2, mse, .*Found 'f1'"):
        fitted("reg", [0, 1], show=["mae", "f1"])


@pytest.mark.parametrize("cell", ["1_000", "1e39", 10**400, "0x10", "½"])
def test_other_ways_to_write_numbers(cell):
    with pytest.raises(UserError, match=r"`x` should be a (finite )?number"):
        Regression("reg", "x").encode([cell])
