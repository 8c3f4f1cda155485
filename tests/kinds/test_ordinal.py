"""Levels in an order: the loss of CORN, consistent ranks, kappa."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from dao.errors import UserError
from dao.learner.console.result_tables import figures_across
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.scoring.scoring import breakdown

FIVE = ["1", "2", "3", "4", "5"]


@pytest.fixture
def task():
    return Ordinal("stars", "mark", FIVE)


@pytest.mark.parametrize(("cell", "place"), [(3, 2), ("3", 2), (3.0, 2), (" 3.0 ", 2), ("", -1)])
def test_odd_cells(task, cell, place):
    found = task.encode([cell, None])
    assert found.tolist() == [place, -1]
    assert found.dtype == torch.int64
    assert task.labelled(found).tolist() == [place >= 0, False]


@pytest.mark.parametrize("cell", [math.nan, [3], {"level": 3}, b"3"])
def test_what_is_no_level(task, cell):
    with pytest.raises(UserError, match=r"`mark` should be a class name.* in row 1"):
        task.encode([cell])


def test_a_level_that_training_never_saw(task):
    with pytest.raises(UserError, match=r"`mark` .* one of 1, 2, 3, 4, 5\. Found '6' in row 2"):
        task.encode([1, 6])


def corn(rows, places):
    """Section 3.3 of arXiv 2111.08851: task j learns 1{y > r_j} on S_j = {i: y_i > r_(j-1)}."""
    total = pairs = 0.0
    for j in range(len(rows[0])):
        subset = [i for i, y in enumerate(places) if j == 0 or y > j - 1]
        for i in subset:
            p = 1 / (1 + math.exp(-rows[i][j]))
            total -= math.log(p) if places[i] > j else math.log(1 - p)
        pairs += len(subset)
    return total / pairs


@pytest.mark.parametrize("places", [[0, 4, 2, 3], [0, 0, 0, 0], [4, 4, 4, 4], [1, 3, 0, 4]])
def test_the_loss_is_that_of_the_paper(agrees, task, places):
    rows = [[0.5, -1.0, 2.0, 0.1], [2.0, 1.0, -0.5, 0.3], [-1.5, 0.2, 0.4, 1.0], [0, 1, -1, 2.5]]
    agrees(task, rows, torch.tensor(places), lambda found: corn(found, places))


def test_a_row_counts_by_the_logits_that_it_teaches(task):
    assert task.row_weights(task.encode([1, 2, 3, 4, 5, None])).tolist() == [1, 2, 3, 4, 4, 0]


def test_two_levels_are_binary_cross_entropy():
    outputs, targets = torch.tensor([[0.3], [-2.0]]), torch.tensor([1, 0])
    plain = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())
    assert Ordinal("t", "x", ["0", "1"]).loss(outputs, targets).item() == pytest.approx(plain)


def test_probabilities_by_hand():
    # P(above 1) = 3/4, P(above 2) = 3/4 x 2/3 = 1/2, P(above 3) = 1/2 x 1/5.
    chances = torch.tensor([[3 / 4, 2 / 3, 1 / 5]], dtype=torch.float64)
    found = Ordinal("t", "x", FIVE[:4]).predict(chances.logit() - 1e-9)
    assert found["t"] == ["2"]  # above 2 at one half is no more likely than not
    each = [found[f"t_p_{level}"][0] for level in FIVE[:4]]
    assert each == pytest.approx([1 / 4, 1 / 4, 4 / 10, 1 / 10])


def test_ranks_are_consistent_whatever_the_outputs(task):
    outputs = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * 8
    columns = task.predict(outputs)
    each = np.array([columns[f"stars_p_{level}"] for level in FIVE]).T
    assert (each >= 0).all()
    assert each.sum(axis=1) == pytest.approx(1)
    below = np.cumsum(each, axis=1)  # P(y <= level)
    decided = task.decide(outputs)
    assert [FIVE[place] for place in decided] == columns["stars"]
    rows = np.arange(len(outputs))
    # The median: at least half of the probability up to it, less than half below it.
    assert (below[rows, decided] >= 0.5 - 1e-9).all()
    assert (np.where(decided > 0, below[rows, decided - 1], 0) < 0.5 + 1e-9).all()
    assert len(set(decided.tolist())) == 5


def test_figures_by_hand():
    task = Ordinal("t", "x", ["a", "b", "c"])
    actual, predicted = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 0])
    found = task.compare(predicted, actual)
    assert found["accuracy"] == 0.5
    assert found["mae_levels"] == (1 + 2) / 4
    assert found["confusion_matrix"] == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    # Squared distances: 1 + 4 observed; by the margins (1, 1, 2) x (2, 0, 2) / 4 they would be
    # 1 x 2 x 4 + 1 x 2 x 1 + 1 x 2 x 1 + 2 x 2 x 4, divided by 4.
    assert found["qwk"] == pytest.approx(1 - 5 / (28 / 4))
    assert task.score(found) == found["qwk"]
    assert task.changed(select_by="accuracy").score(found) == 0.5
    assert task.row_scores(predicted, actual).tolist() == [0, 1, 0, 2]


def test_kappa_against_scikit_learn(task):
    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, 4, 50), rng.integers(1, 5, 50)
    expected = cohen_kappa_score(actual, predicted, weights="quadratic", labels=range(5))
    assert task.compare(predicted, actual)["qwk"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "actual", "kappa"),
    [([2, 2], [2, 2], None), ([3, 3], [2, 2], None), ([1, 2], [2, 2], None),
     ([2, 2], [1, 3], 0.0), ([1, 3], [1, 3], 1.0),
     ([3, 1], [1, 3], -1.0)],
)  # fmt: skip
def test_kappa_where_little_varies(task, predicted, actual, kappa):
    assert task.compare(np.array(predicted), np.array(actual))["qwk"] == kappa


def test_kappa_of_a_group_with_one_level_is_undefined(task):
    outputs = torch.tensor([[9.0, -9, -9, -9], [9, 9, -9, -9], [9, 9, 9, -9], [9, -9, -9, -9]])
    targets = {"stars": task.encode([2, 2, 1, 3])}
    columns = {"region": ["north", "north", "south", "south"]}
    found = breakdown({"stars": task}, {"stars": outputs}, targets, columns)["region"]
    assert found["north"]["stars"]["qwk"] is None
    assert found["south"]["stars"]["qwk"] is not None
    (table,) = figures_across("t", {"stars": [("qwk", "↑")]}, found)
    assert [str(next(column.cells)) for column in table.columns][1] == ""


def test_levels_of_numbers_ascend(fitted):
    found = fitted("t", ["10", "9", "-1", "10", 2.5], kind="ordinal")
    assert found.levels == ["-1", "2.5", "9", "10"]
    assert found.outputs == 3
    assert found.notes() == ["t: levels -1 < 2.5 < 9 < 10"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["1", "01", "2"],
            r"`t` should have one name for each level\. Found 01 and 1, which are one",
        ),
        (
            ["1.5", "1.50", "2"],
            r"one name for each level\. Found 1\.5 and 1\.50, which are one num",
        ),
        (["1_0", "9", "8"], r"numbers for the ordinal task t, .*Found .*1_0"),
        (["1e400", "9", "8"], r"numbers for the ordinal task t, .*Found .*1e400"),
    ],
)
def test_levels_are_the_numbers_that_a_regression_reads(fitted, cells, message):
    with pytest.raises(UserError, match=message) as caught:
        fitted("t", cells, kind="ordinal")
    assert "\n" not in str(caught.value)


def test_levels_of_words_follow_the_settings(fitted):
    words = ["low", "high", "middle", "low"]
    found = fitted("t", words, kind="ordinal", levels=["low", "middle", "high"])
    assert found.encode(words).tolist() == [0, 2, 1, 0]
    assert fitted("t", [1, 2.0], kind="ordinal", levels=[2.0, 1]).levels == ["2", "1"]


@pytest.mark.parametrize(
    ("cells", "splits", "options", "message"),
    [
        (["low", "high"], "", {},
         r"`t` should hold numbers .* or the order .* Found high, low\. .*t\.levels=\[LOWEST,"),
        ([1, 2, 3], "tr tr va", {}, r"`t` .* every level in the train split\. Found '3' "
         r"only in the validation split \(1 row\)"),
        ([1, 2, 3, 3], "tr tr te te", {}, r"Found '3' only in the test split \(2 rows\)"),
        ([1, 2, 3], "", {"levels": [1, 2]}, r"levels 1, 2\. Found '3' in the train split \(1 row"),
        ([1, 3, 2], "tr tr va", {"levels": [1, 2, 3]},
         r"training rows of every level of t\. Found none of 2\. .*leave .* out of t\.levels"),
        ([1, 1], "", {}, r"at least two levels in the train split\. Found: 1\. .*t\.column="),
        ([None, 1], "tr va", {}, r"at least two levels in the train split\. Found: none\."),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line(fitted, cells, splits, options, message):
    with pytest.raises(UserError, match=message) as caught:
        fitted("t", cells, splits, kind="ordinal", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [["a"], ["a", "a"], [1, 1.0], ["a", " "], ["a", "nan"], 3])
def test_levels_that_are_none(asked, levels):
    with pytest.raises(ValueError, match=r"`t\.levels` should be "):
        asked(t={"kind": "ordinal", "levels": levels})


def test_baselines_by_hand():
    task = Ordinal("t", "x", ["1", "2", "3"])
    texts = [f"{word} {i}" for word in ("bad", "fair", "good") for i in range(4)]
    train = [*texts, "good 4", "unknown"], task.encode([1] * 4 + [2] * 4 + [3] * 5 + [None])
    test = ["bad", "fair", "good", "good"], task.encode([1, 2, 3, 3])
    rows = task.baselines(train, test, test)
    assert list(rows) == [
        "majority class", "median level", "TF-IDF + logistic regression",
        "TF-IDF + ridge regression",
    ]  # fmt: skip
    majority, median, logistic, ridge = rows.values()
    assert (majority["accuracy"], majority["mae_levels"], majority["qwk"]) == (0.5, 0.75, 0.0)
    assert (median["accuracy"], median["mae_levels"], median["qwk"]) == (0.25, 0.75, 0.0)
    assert logistic["accuracy"] == logistic["qwk"] == 1.0
    assert ridge["accuracy"] == 1.0
