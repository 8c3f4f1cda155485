"""Temperatures, calibration errors, limits of coverages and unlike texts, by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from crepes import ConformalRegressor

from dao.errors import UserError
from dao.learner.calibration import conformal
from dao.learner.calibration.conformal import calibration_scores, largest_coverage, limit_of
from dao.learner.calibration.coverage import covered
from dao.learner.calibration.figures import calibration_parts
from dao.learner.calibration.record import Calibration, calibration_of
from dao.learner.calibration.reliability import calibration_error, likelihood_loss
from dao.learner.calibration.temperature import fitted_temperature, with_temperature
from dao.learner.calibration.unlike import Familiar, familiar
from dao.learner.console.calibration_tables import calibration_lines, calibration_tables
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.regression import Regression

TOPIC = Classification("topic", "x", ["a", "b", "c"])
PRICE = Regression("price", "x", mean=10.0, sd=2.0)
TAGS = Multilabel("tags", "x", ["p", "q"])
NOTHING = Familiar(np.zeros(8, bool), frozenset(), 0.5)


def logits(*rows: tuple[float, ...]) -> torch.Tensor:
    """Outputs of a classification whose probabilities are these."""
    return torch.tensor(rows, dtype=torch.float64).log()


# Confidences .62, .65 (bin 10 of 15, from .6 to .667) and .9 (bin 14); .62 and .9 are right.
THREE = logits((0.62, 0.2, 0.18), (0.15, 0.65, 0.2), (0.05, 0.05, 0.9))
TRUTH = torch.tensor([0, 0, 2])


def test_the_calibration_error_by_hand():
    # Bin 10: accuracy 1/2, confidence .635; bin 14: accuracy 1, confidence .9.
    expected = 2 / 3 * abs(0.5 - 0.635) + 1 / 3 * abs(1 - 0.9)
    assert calibration_error(TOPIC, THREE, TRUTH) == pytest.approx(expected)


def test_the_likelihood_loss_by_hand():
    expected = -(math.log(0.62) + math.log(0.15) + math.log(0.9)) / 3
    assert likelihood_loss(TOPIC, THREE, TRUTH) == pytest.approx(expected)


def test_of_labels_every_label_is_an_answer():
    outputs = torch.tensor([[0.7, 0.2]], dtype=torch.float64).logit()
    targets = torch.tensor([[1.0, 1.0]])
    expected = -(math.log(0.7) + math.log(0.2)) / 2
    assert likelihood_loss(TAGS, outputs, targets) == pytest.approx(expected)
    # .7 for having p is right, .8 for lacking q is wrong: they are in bins of their own.
    assert calibration_error(TAGS, outputs, targets) == pytest.approx((0.3 + 0.8) / 2)


def test_a_temperature_that_outputs_were_multiplied_by_is_found():
    torch.manual_seed(0)
    true = torch.randn(4000, 3, dtype=torch.float64)
    targets = torch.distributions.Categorical(logits=true).sample()
    found = fitted_temperature(TOPIC, 2.5 * true, targets)
    assert found == pytest.approx(2.5, rel=0.1)
    # The derivative of the likelihood loss is 0 there.
    around = [likelihood_loss(TOPIC, 2.5 * true / t, targets) for t in (found - 0.01, found + 0.01)]
    here = likelihood_loss(TOPIC, 2.5 * true / found, targets)
    assert here < min(around)
    assert calibration_error(TOPIC.at(found), 2.5 * true, targets) < 0.03
    assert calibration_error(TOPIC, 2.5 * true, targets) > 0.1


def test_the_temperature_of_two_kinds_of_rows_by_hand():
    # Of ten rows with probability .9 (logit log 9), eight are right: T = log 9 / log 4.
    task = Binary("urgent", "x", ["no", "yes"])
    outputs = torch.full((10, 1), math.log(9))
    targets = torch.tensor([1.0] * 8 + [0.0] * 2)
    assert fitted_temperature(task, outputs, targets) == pytest.approx(
        math.log(9) / math.log(4), rel=1e-3
    )


def test_without_a_minimum_nothing_is_scaled():
    right = torch.tensor([0, 2, 2])
    assert fitted_temperature(TOPIC, THREE[[0, 2, 2]], right) == 1.0  # colder is always better
    wrong = torch.tensor([1, 0, 0])
    assert fitted_temperature(TOPIC, THREE[[0, 2, 2]], wrong) == 1.0  # hotter is always better
    assert fitted_temperature(TOPIC, THREE, torch.full((3,), -100)) == 1.0
    assert with_temperature(PRICE, THREE[:, :1], torch.zeros(3)) is PRICE


def test_rows_without_a_target_have_no_part_in_the_temperature():
    outputs, targets = torch.cat([THREE, THREE]), torch.cat([TRUTH, torch.full((3,), -100)])
    found = fitted_temperature(TOPIC, THREE, TRUTH)
    assert fitted_temperature(TOPIC, outputs, targets) == found != 1.0


@pytest.mark.parametrize("rows", [1, 5, 9, 19, 100])
def test_the_limit_is_the_order_statistic_of_the_correction(rows: int):
    scores = np.arange(1, rows + 1) / 10
    for coverage in (0.05, 0.5, 0.8, 0.9, 0.95, 0.99):
        place = math.ceil(round((rows + 1) * coverage, 6))
        found = limit_of(scores, coverage)
        assert found == (scores[place - 1] if place <= rows else None)
        assert (found is None) == (coverage > largest_coverage(rows) + 1e-12)


def test_a_whole_number_is_not_missed_by_rounding():
    # 0.7 * 10 is 7.000000000000001 in floating point when made of a sum.
    assert limit_of(np.arange(9.0), 0.1 + 0.2 + 0.4) == 6.0
    assert limit_of(np.arange(9.0), 0.9) == 8.0


def test_intervals_are_those_of_crepes():
    """An independent implementation: crepes, without smoothing."""
    generator = np.random.default_rng(0)
    means = torch.from_numpy(generator.normal(size=(200, 1)))
    numbers = torch.from_numpy(generator.normal(10, 3, 200))
    residuals = np.array(calibration_scores(PRICE, means[:100], numbers[:100], seed=0))
    ends = (
        ConformalRegressor().fit(residuals).predict_int(PRICE.decide(means[100:]), confidence=0.9)
    )
    own = PRICE.region(means[100:], limit_of(residuals, 0.9))
    assert np.stack([own["price_low"], own["price_high"]], axis=1) == pytest.approx(ends)


def test_a_set_holds_the_classes_above_one_minus_the_limit():
    outputs = logits((0.62, 0.2, 0.18), (0.34, 0.33, 0.33), (0.05, 0.05, 0.9))
    assert TOPIC.region(outputs, 0.805)["topic_set"] == ["a|b", "a|b|c", "c"]
    assert TOPIC.region_sizes(outputs, 0.805).tolist() == [2, 3, 1]
    piped = Classification("topic", "x", ["a|b", "c"])
    assert piped.region(torch.zeros(1, 2), 0.9)["topic_set"] == ["a\\|b|c"]


def test_a_set_follows_the_temperature():
    outputs = logits((0.6, 0.3, 0.1))
    assert TOPIC.region(outputs, 0.65)["topic_set"] == ["a"]
    assert TOPIC.at(4.0).region(outputs, 0.65)["topic_set"] == ["a"]
    assert TOPIC.at(4.0).region(outputs, 0.7)["topic_set"] == ["a|b"]


def test_an_interval_is_in_the_unit_of_the_data():
    outputs, targets = torch.tensor([[1.0], [-0.5]]), torch.tensor([15.0, 9.25])
    assert PRICE.nonconformity(outputs, targets).tolist() == [3.0, 0.25]
    assert PRICE.region(outputs, 3.0) == {"price_low": [9.0, 6.0], "price_high": [15.0, 12.0]}
    assert PRICE.region_sizes(outputs, 3.0).tolist() == [6.0, 6.0]
    assert PRICE.unsure(outputs, 3.0) is None


def test_a_level_has_the_probabilities_of_its_columns():
    task = Ordinal("stars", "x", ["1", "2", "3"]).at(2.0)
    outputs = torch.tensor([[1.0, -3.0]])
    above = [1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(1.5))]
    expected = [1 - above[0], above[0] * (1 - above[1]), above[0] * above[1]]
    assert task.log_probabilities(outputs)[0, 0].exp().tolist() == pytest.approx(expected)
    assert task.predict(outputs)["stars_p_2"] == pytest.approx([expected[1]])


def test_of_very_many_rows_a_random_choice_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conformal, "KEPT", 50)
    outputs, targets = torch.zeros(400, 1), torch.arange(400.0)
    found = calibration_scores(PRICE, outputs, targets, seed=1)
    assert len(found) == 50
    assert found == sorted(found)
    assert set(found) <= set(PRICE.nonconformity(outputs, targets).tolist())
    assert 100 < np.mean(found) < 300  # of all parts
    assert found == calibration_scores(PRICE, outputs, targets, seed=1)


def test_coverage_is_reached_over_many_draws():
    """The mean over draws of calibration and new rows lies in c to c + 1 / (n + 1)."""
    generator = np.random.default_rng(0)
    draws = generator.exponential(size=(4000, 25))
    hits = [row[-1] <= limit_of(np.sort(row[:-1]), 0.8) for row in draws]
    assert 0.8 - 0.02 < np.mean(hits) < 0.8 + 1 / 25 + 0.02


def known(scores: dict[str, list[float]]) -> Calibration:
    return Calibration({name: np.array(own) for name, own in scores.items()}, NOTHING)


def test_too_few_rows_for_a_coverage_is_one_line_with_the_largest():
    tasks = {"topic": TOPIC}
    with pytest.raises(UserError) as caught:
        covered(tasks, known({"topic": [0.1, 0.2, 0.3, 0.4, 0.5]}), 0.9)
    assert str(caught.value) == (
        "A coverage of 0.9 needs 9 rows of validation with a target of topic. Found 5, which allow "
        "at most 0.833. Ask for less, or train with more validation rows."
    )
    assert covered(tasks, known({"topic": [0.1] * 5}), 0.833).limits == {"topic": 0.1}


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 90, math.nan])
def test_a_coverage_is_a_share(coverage: float):
    with pytest.raises(UserError, match="should be between 0 and 1"):
        covered({"topic": TOPIC}, known({"topic": [0.5] * 99}), coverage)


def test_tasks_without_regions_are_told_or_refused():
    found = covered({"tags": TAGS, "topic": TOPIC}, known({"topic": [0.4] * 20}), 0.9)
    assert [*found.tasks] == ["topic"]
    assert "no sets or intervals for tags" in found.notes()[0]
    spread = np.linspace(0.3, 0.7, 20).tolist()
    assert covered({"topic": TOPIC}, known({"topic": spread}), 0.9).notes() == []
    with pytest.raises(UserError, match="Found none in tags"):
        covered({"tags": TAGS}, known({}), 0.9)


def test_sets_that_hold_more_than_asked_are_told_with_the_coverage_to_ask_for():
    # The answer is right, which scores 0, in 94 of 100 rows. An interval holds no answer by rule.
    scores = {"topic": [0.0] * 94 + [0.5, 0.6, 0.7, 0.8, 0.9, 0.95], "price": [1.0] * 100}
    tasks = {"topic": TOPIC, "price": PRICE}
    assert covered(tasks, known(scores), 0.9).notes() == [
        "topic: its sets hold the truth of 94 % of the validation rows, which is more than asked, "
        "because each set holds at least the answer; ask for more than 94 % to get sets of several "
        "classes"
    ]
    assert covered(tasks, known(scores), 0.95).notes() == []


def test_a_row_is_unsure_where_a_task_is():
    stars = Ordinal("stars", "x", ["1", "2"])
    found = covered(
        {"topic": TOPIC, "stars": stars, "price": PRICE},
        known({"topic": [0.668] * 20, "stars": [0.5] * 20, "price": [1.0] * 20}), 0.9,
    )  # fmt: skip
    outputs = {
        "topic": logits((0.62, 0.2, 0.18), (0.62, 0.2, 0.18), (0.335, 0.333, 0.332)),
        "stars": torch.tensor([[3.0], [0.0], [3.0]]), "price": torch.zeros(3, 1),
    }  # fmt: skip
    columns = found.columns(outputs, [[1], [2], [3]])
    assert columns["stars_set"] == ["2", "1|2", "2"]
    assert columns["unsure"] == [False, True, True]
    assert [*columns][-2:] == ["unsure", "unlike"]
    alone = covered({"price": PRICE}, known({"price": [1.0] * 20}), 0.9)
    assert [*alone.columns(outputs, [[1], [2], [3]])] == ["price_low", "price_high", "unlike"]


TOKENIZER = SimpleNamespace(
    all_special_ids=[0, 1, 2], unk_token="[UNK]", unk_token_id=1,
    special_tokens_map={"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"},
)  # fmt: skip


def test_texts_with_tokens_that_training_never_had_are_unlike():
    training = np.array([0, 3, 4, 5, 2, 3, 1, 2])  # with an unknown one
    validation = [[0, 3, 4, 2], [3, 4, 5, 6], [3, 1]]
    found = familiar(training, validation, TOKENIZER)
    assert found.shares(validation).tolist() == [0.0, 0.25, 0.5]
    assert found.limit == 0.5
    assert found.unlike([[3, 7], [7, 8, 3], [0, 2], [99]]).tolist() == [False, True, True, True]
    alike = familiar(training, [[3, 4, 5]], TOKENIZER)  # a new name says nothing of a text
    assert alike.unlike([[3] * 9 + [7], [3] * 8 + [7]]).tolist() == [False, True]
    again = Familiar.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.shares([*validation, [7, 8]]).tolist() == [0.0, 0.25, 0.5, 1.0]
    assert (again.limit, again.passed_over) == (found.limit, frozenset({0, 2}))


def test_a_tokenizer_with_one_token_for_unknown_and_end_knows_no_unknown():
    own = SimpleNamespace(
        all_special_ids=[2], unk_token="<end>", unk_token_id=2,
        special_tokens_map={"unk_token": "<end>", "eos_token": "<end>"},
    )  # fmt: skip
    found = familiar(np.array([3, 2]), [[3, 2]], own)
    assert found.shares([[3, 2], [4, 2]]).tolist() == [0.0, 1.0]


def test_figures_and_their_lines():
    rows = pd.DataFrame({"topic": ["a", "a", "c", None], "price": [15.0, 9.25, None, None],
                         "tags": [("p",), None, None, None]}, dtype=object)  # fmt: skip
    outputs = {"topic": torch.cat([THREE, THREE[:1]]), "price": torch.tensor([[1.0], [-0.5]] * 2),
               "tags": torch.zeros(4, 2)}  # fmt: skip
    tasks = {"topic": TOPIC.at(0.5), "price": PRICE, "tags": TAGS}
    calibration = known({"topic": [0.5] * 20, "price": [1.0] * 4})
    ids = [[1], [2], [3], [4]]
    found = calibration_parts("test", tasks, calibration, outputs, rows, ids)
    json.dumps(found, allow_nan=False)
    topic, price = (found["calibration"]["test"][name] for name in ("topic", "price"))
    assert topic["ece"]["before"] == pytest.approx(calibration_error(TOPIC, THREE, TRUTH))
    assert topic["nll"]["after"] == likelihood_loss(TOPIC.at(0.5), THREE, TRUTH)
    assert (topic["n"], topic["coverage"]["reached"]) == (3, pytest.approx(2 / 3))
    assert (topic["coverage"]["size"], topic["coverage"]["unsure"]) == (1.0, 0.0)
    assert price["coverage"]["reached"] is None
    assert "coverage" not in found["calibration"]["test"]["tags"]
    assert found["unlike"]["test"] == {"n": 4, "share": 1.0, "limit": 0.5}
    scaling, regions = calibration_tables(found, "test")
    assert scaling.row_count == 2
    assert [*regions.columns[0].cells] == ["topic"]
    lines = calibration_lines(found, "test")
    assert any("price: no coverage of 0.9 is told, because 4 rows of" in line for line in lines)
    assert any("tags: probabilities are not scaled" in line for line in lines)
    worse = [line for line in lines if line.startswith("topic: scaling did not lower")]
    keys = {"ece": "expected calibration error", "nll": "negative log-likelihood"}
    for key, words in keys.items():
        told = any(words in line for line in worse)
        assert told == (topic[key]["after"] >= topic[key]["before"])
    assert worse
    assert calibration_tables({}, "test") == calibration_lines({}, "test") == []


def test_a_calibration_reads_back():
    outputs = {"topic": THREE, "tags": torch.zeros(3, 2), "price": torch.zeros(3, 1)}
    targets = {"topic": TRUTH, "tags": torch.ones(3, 2), "price": torch.full((3,), math.nan)}
    tasks = {"topic": TOPIC, "tags": TAGS, "price": PRICE}
    made = calibration_of(tasks, outputs, targets, NOTHING, seed=0)
    again = Calibration.from_dict(json.loads(json.dumps(made.to_dict())))
    assert [*again.scores] == ["topic"]
    assert again.scores["topic"] == pytest.approx([0.0, 0.0, 0.85])
