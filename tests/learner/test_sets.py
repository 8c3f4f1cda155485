"""Sets of classes round the decision: scores by hand, what always holds, and their coverage."""

import numpy as np
import pytest
import torch
from crepes import ConformalClassifier
from crepes.extras import hinge

from dao.learner.calibration.conformal import calibration_scores, limit_of
from dao.learner.calibration.coverage import covered
from dao.learner.calibration.record import Calibration
from dao.learner.calibration.told import reached
from dao.learner.calibration.unlike import Familiar
from dao.learner.kinds.binary import Binary
from dao.learner.kinds.certainty.probable import Choice
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.regression import Regression

TOPIC = Classification("topic", "x", ["a", "b", "c"])
URGENT = Binary("urgent", "x", ["no", "yes"], threshold=0.3, chosen=True)
STARS = Ordinal("stars", "x", ["1", "2", "3", "4"])
EVERY = (TOPIC, URGENT, STARS)


def levels(*rows: tuple[float, ...]) -> torch.Tensor:
    """Outputs of an ordinal task whose probabilities are these."""
    found = torch.tensor(rows, dtype=torch.float64)
    reached = found.flip(1).cumsum(1).flip(1)
    return (reached[:, 1:] / reached[:, :-1]).clamp(1e-9, 1 - 1e-9).logit()


def outputs_of(task: Choice, rows: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, task.outputs)))


def scores(task: Choice, outputs: torch.Tensor) -> np.ndarray:
    """The nonconformity of every answer to every row, (n, answers)."""
    places = range(len(task.answers))
    return np.stack(
        [task.nonconformity(outputs, torch.full((len(outputs),), float(p))) for p in places], 1
    )


def test_a_class_that_is_too_improbable_is_in_the_set_where_it_was_decided():
    outputs = torch.tensor([[0.34, 0.33, 0.33], [0.2, 0.5, 0.3]], dtype=torch.float64).log()
    assert scores(TOPIC, outputs) == pytest.approx(np.array([[0, 0.67, 0.67], [0.8, 0, 0.7]]))
    assert TOPIC.region(outputs, 0.4)["topic_set"] == ["a", "b"]  # the classes alone: none, none
    assert TOPIC.region(outputs, 0.7000001)["topic_set"] == ["a|b|c", "b|c"]
    assert TOPIC.unsure(outputs, 0.4).tolist() == [False, False]
    assert TOPIC.unsure(outputs, 0.68).tolist() == [True, False]


def test_the_threshold_decides_which_class_a_set_is_round():
    outputs = torch.tensor([[0.34], [0.29], [0.9]], dtype=torch.float64).logit()
    assert URGENT.predict(outputs)["urgent"] == ["yes", "no", "yes"]
    assert scores(URGENT, outputs) == pytest.approx(np.array([[0.34, 0], [0, 0.71], [0.9, 0]]))
    assert URGENT.region(outputs, 0.3)["urgent_set"] == ["yes", "no", "yes"]
    assert URGENT.region(outputs, 0.5)["urgent_set"] == ["no|yes", "no", "yes"]
    # At one half, the first row is a `no`.
    assert URGENT.at_one_half().region(outputs, 0.3)["urgent_set"] == ["no", "no", "yes"]


def test_levels_reach_from_the_median_outwards():
    outputs = levels((0.4, 0.15, 0.45, 0.0), (0.55, 0.05, 0.4, 0.0), (0.1, 0.3, 0.05, 0.55))
    assert STARS.predict(outputs)["stars"] == ["2", "1", "4"]
    by_hand = [[0.6, 0, 0.55, 1], [0, 0.6, 0.6, 1], [0.9, 0.7, 0.7, 0]]
    assert scores(STARS, outputs) == pytest.approx(np.array(by_hand), abs=1e-6)
    assert STARS.region(outputs, 0.58)["stars_set"] == ["2|3", "1", "4"]
    assert STARS.region(outputs, 0.6001)["stars_set"] == ["1|2|3", "1|2|3", "4"]
    assert STARS.region(outputs, 0.7001)["stars_set"] == ["1|2|3", "1|2|3", "2|3|4"]


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_every_set_holds_the_decision_and_has_no_gap(task: Choice, temperature: float):
    task = task.at(temperature)
    outputs = outputs_of(task, 500)
    decided = task.predict(outputs)[task.name]
    for limit in (0.0, 0.2, 0.5, 0.8, 1.0):
        sets = [cell.split("|") for cell in task.region(outputs, limit)[f"{task.name}_set"]]
        assert all(one in own for one, own in zip(decided, sets, strict=True))
        assert [len(own) for own in sets] == task.region_sizes(outputs, limit).tolist()
        assert [len(own) > 1 for own in sets] == task.unsure(outputs, limit).tolist()
        if task is STARS:
            assert all("".join(own) in "1234" for own in sets)


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_the_coverage_is_reached_over_many_draws(task: Choice):
    """The mean over draws of 24 calibration rows and a new one lies in c to c + 1 / 25."""
    draws, rows = 4000, 25
    outputs = outputs_of(task, draws * rows)
    chances = task.log_probabilities(0.5 * outputs)[:, 0].exp()  # the model is too sure of itself
    targets = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    own = task.nonconformity(outputs, targets.float()).reshape(draws, rows)
    for coverage in (0.8, 0.9):
        hits = [row[-1] <= limit_of(np.sort(row[:-1]), coverage) for row in own]
        assert coverage - 0.015 < np.mean(hits) < coverage + 1 / rows + 0.015


def test_a_model_that_is_right_more_often_than_asked_gives_single_answers():
    outputs = torch.tensor([[3.0, 0.0, 0.0]] * 20)
    targets = torch.tensor([0] * 18 + [1] * 2)
    found = calibration_scores(TOPIC, outputs, targets, seed=0)
    limit = limit_of(np.array(found), 0.8)
    assert limit == 0.0
    assert TOPIC.region(outputs, limit)["topic_set"] == ["a"] * 20


def old_scores(task: Choice, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """1 - p(y), the rule of earlier revisions."""
    chances = task.log_probabilities(outputs)[:, 0].exp()
    return np.sort(1 - chances.gather(1, targets[:, None])[:, 0].numpy())


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_scores_of_earlier_runs_give_sets_that_are_wide_enough(task: Choice):
    outputs = outputs_of(task, 600)
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, len(task.answers), 600))
    old = old_scores(task, outputs[:300], targets[:300])
    new = np.sort(task.nonconformity(outputs[:300], targets[:300].float()))
    assert (new <= old + 1e-12).all()
    kept = Calibration.from_dict({
        "scores": {task.name: old.tolist()},
        "unlike": Familiar(np.zeros(8, bool), frozenset(), 0.5).to_dict(),
    })  # fmt: skip
    for coverage in (0.5, 0.8, 0.9):
        limit = covered({task.name: task}, kept, coverage).limits[task.name]
        assert limit >= limit_of(new, coverage)
        hits = task.nonconformity(outputs[300:], targets[300:].float()) <= limit
        assert hits.mean() > coverage - 0.06  # three standard errors of 300 rows


def test_hand_made_scores_of_an_earlier_run():
    """Nine scores 0.1 to 0.9 of the old rule: a coverage of 0.8 takes the eighth, 0.8."""
    kept = Calibration.from_dict({
        "scores": {"stars": [i / 10 for i in range(1, 10)]},
        "unlike": Familiar(np.zeros(8, bool), frozenset(), 0.5).to_dict(),
    })  # fmt: skip
    found = covered({"stars": STARS}, kept, 0.8)
    assert found.limits == {"stars": 0.8}
    outputs = levels((0.25, 0.15, 0.15, 0.45), (0.1, 0.1, 0.1, 0.7))
    columns = found.columns({"stars": outputs}, [[1], [2]])
    # The old rule left out the levels 2 and 3, and with them the decision, which is 3.
    assert STARS.predict(outputs)["stars"] == ["3", "4"]
    assert columns["stars_set"] == ["1|2|3|4", "4"]
    assert columns["unsure"] == [True, False]


def test_sets_are_those_of_crepes():
    """An independent implementation: crepes, without smoothing."""
    outputs = outputs_of(TOPIC, 200)
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 200))
    chances = outputs.softmax(dim=1).numpy()
    lacking = 1 - chances
    lacking[np.arange(200), chances.argmax(1)] = 0
    calibration = lacking[np.arange(100), targets[:100].numpy()]
    plain = ConformalClassifier().fit(hinge(chances[:100], np.arange(3), targets[:100].numpy()))
    same = 0
    for coverage in (0.6, 0.8, 0.95):
        found = calibration_scores(TOPIC, outputs[:100], targets[:100], seed=0)
        limit = limit_of(np.array(found), coverage)
        own = TOPIC.region(outputs[100:], limit)["topic_set"]
        theirs = ConformalClassifier().fit(calibration).predict_set(
            lacking[100:], confidence=coverage, smoothing=False
        )  # fmt: skip
        assert own == ["|".join(np.array(["a", "b", "c"])[row == 1]) for row in theirs]
        if limit >= 2 / 3:  # the decided class is in every set of 1 - p(y) as well
            same += 1
            theirs = plain.predict_set(hinge(chances[100:]), confidence=coverage, smoothing=False)
            assert own == ["|".join(np.array(["a", "b", "c"])[row == 1]) for row in theirs]
    assert same


def test_the_words_on_a_coverage():
    about = {"asked": 0.9, "reached": 0.9125, "region": "classes", "holds_answer": True}
    metrics = {"calibration": {"test": {"area": {"n": 480, "coverage": about}}}}
    assert reached(metrics, "area", 0.9) == "90 % asked, 91.2 % reached on 480 test rows"
    assert reached(metrics, "area", 0.8) == (
        "80 % asked (where 90 % is asked, 91.2 % is reached on 480 test rows)"
    )
    assert reached(metrics, "area", 0.9, "int8") == (
        "90 % asked, 91.2 % reached on 480 test rows (as trained)"
    )
    assert reached(metrics, "area", 0.8, "int8") == (
        "80 % asked (where 90 % is asked, 91.2 % is reached on 480 test rows, as trained)"
    )
    assert reached(metrics, "other", 0.9) == reached({}, "area", 0.9) == "90 % asked"
    del about["holds_answer"]  # sets of earlier revisions were smaller
    assert reached(metrics, "area", 0.9) == "90 % asked, at least 91.2 % reached on 480 test rows"
    about |= {"region": "width", "reached": 1.0}
    assert reached(metrics, "area", 0.9) == "90 % asked, 100 % reached on 480 test rows"
    about["reached"] = None
    assert reached(metrics, "area", 0.9) == "90 % asked"


def test_the_words_on_a_threshold():
    # Threshold 0.3 at temperature 2: 1 / (1 + (7 / 3) ** 0.5) = 0.3956...
    assert URGENT.rule() == "yes from 30 %"
    assert URGENT.at(2.0).rule() == "yes from 39.6 %"
    assert URGENT.at_one_half().rule() == TOPIC.rule() == STARS.rule() == ""
    assert Binary("urgent", "x", ["no", "yes"]).rule() == ""
    tags = Multilabel("tags", "x", ["a", "b"], threshold=0.3)
    assert (tags.rule(), tags.at(2.0).rule()) == ("a label from 30 %", "a label from 39.6 %")
    assert tags.at(2.0).scaled_threshold() == pytest.approx(0.3956439)
    assert Multilabel("tags", "x", ["a", "b"]).rule() == ""
    high = Binary("urgent", "x", ["no", "yes"], threshold=0.99996)
    assert high.rule() == "yes from 99.996 %"


def test_the_tasks_of_which_a_row_is_unsure():
    both, price = Classification("topic_set", "x", ["a", "b|c"]), Regression("price", "x")
    tasks = {"topic": TOPIC, "topic_set": both, "price": price}
    scores = {name: np.array([0.6] * 20) for name in tasks}
    found = covered(tasks, Calibration(scores, Familiar(np.zeros(8, bool), frozenset(), 0.5)), 0.9)
    outputs = {
        "topic": torch.tensor([[0.5, 0.49, 0.01], [0.9, 0.05, 0.05], [0.9, 0.05, 0.05]]).log(),
        "topic_set": torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.1, 0.9]]).log(),
        "price": torch.zeros(3, 1),
    }
    unsure = found.unsure(outputs)
    assert {name: rows.tolist() for name, rows in unsure.items()} == {
        "topic": [True, False, False], "topic_set": [False, True, False],
    }  # fmt: skip
    columns = found.columns(outputs, [[1]] * 3)
    assert columns["unsure"] == [True, True, False]
    assert columns["topic_set_set"] == ["b\\|c", "a|b\\|c", "b\\|c"]
