"""Yes or no: which class is meant, its threshold, its figures."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from dao.errors import UserError
from dao.learner.kinds.binary import Binary

NAN = math.nan
UP = [f"{what} {how}" for what in ("profit", "sales", "orders") for how in ("rose", "rose again")]
DOWN = [text.replace("rose", "fell") for text in UP] * 2


@pytest.fixture
def task():
    return Binary("urgent", "mark", ["no", "yes"])


def logits(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64)[:, None].logit()


@pytest.mark.parametrize(
    ("cell", "name"),
    [(" yes ", "yes"), (1, "1"), (1.0, "1"), ("1.00", "1"), (True, "True"), ("", None),
     ("  ", None), (None, None), ("0.5", "0.5")],
)  # fmt: skip
def test_odd_cells(task, cell, name):
    assert task.parse(cell) == name


@pytest.mark.parametrize("cell", [NAN, "NaN", ["yes"], {"yes": 1}, b"yes"])
def test_what_is_no_class(task, cell):
    with pytest.raises(UserError, match=r"`mark` should be a class name.* in row 2"):
        task.encode(["no", cell])


def test_encode(task):
    found = task.encode(["yes", None, "no"])
    assert found.dtype == torch.float32
    assert found[[0, 2]].tolist() == [1.0, 0.0]
    with pytest.raises(UserError, match=r"`mark` .* one of no, yes\. Found 'maybe' in row 1"):
        task.encode(["maybe"])


@pytest.mark.parametrize("weights", [None, [0.5, 3.0]])
def test_the_loss_by_hand(agrees, weights):
    task = Binary("t", "x", ["no", "yes"], weights)
    marks = [1, 0, 0, 1]

    def reference(rows):
        total = below = 0.0
        for (z,), y in zip(rows, marks, strict=True):
            p, w = 1 / (1 + math.exp(-z)), 1.0 if weights is None else weights[y]
            total -= w * math.log(p if y else 1 - p)
            below += w
        return total / below

    agrees(task, [[2.0], [-0.5], [1.5], [0.25]], torch.tensor(marks).float(), reference)


def test_predictions(task):
    found = task.predict(torch.tensor([[0.0], [-math.log(3)]]))
    assert found["urgent"] == ["yes", "no"]  # at one half and above
    assert found["urgent_p_yes"] == pytest.approx([0.5, 0.25])
    assert found["urgent_p_no"] == pytest.approx([0.5, 0.75])
    assert list(found) == ["urgent", "urgent_p_no", "urgent_p_yes"]
    low = task.changed(threshold=0.25)
    assert low.predict(torch.tensor([[-1.0]]))["urgent"] == ["yes"]
    assert low.at_one_half().predict(torch.tensor([[-1.0]]))["urgent"] == ["no"]


VALIDATION = logits(0.9, 0.6, 0.4, 0.2, 0.99), torch.tensor([1.0, 0.0, 1.0, 0.0, NAN])


def test_the_threshold_of_the_best_f1_on_validation(task):
    # From 0.9 on: F1 2/3; 0.6: 1/2; 0.4: 4/5; 0.2: 2/3. The row without a class counts for nothing.
    tuned = task.tuned(*VALIDATION)
    assert tuned.threshold == pytest.approx(0.4)
    assert tuned.metrics(*VALIDATION)["f1"] == pytest.approx(0.8)
    assert tuned.metrics(*VALIDATION)["threshold"] == tuned.threshold
    assert task.threshold is None  # the other one is as it was
    assert task.changed(threshold=0.7).tuned(*VALIDATION).threshold == 0.7


def test_whether_a_threshold_was_given_outlives_the_run(task):
    given, tuned = task.changed(threshold=0.7), task.tuned(*VALIDATION)
    assert not given.chosen
    assert not tuned.at_one_half().chosen
    assert tuned.chosen
    for one in (given, tuned):
        assert Binary.from_dict(one.to_dict()).chosen is one.chosen
    # What an earlier revision wrote, where a threshold was chosen unless a person gave one.
    earlier = {key: value for key, value in tuned.to_dict().items() if key != "chosen"}
    assert Binary.from_dict(earlier).to_dict() == tuned.to_dict()


@pytest.mark.parametrize("marks", [[0.0, 0.0, NAN], [1.0, 1.0, NAN], [NAN, NAN, NAN]])
def test_rows_of_one_class_choose_no_threshold(task, marks):
    assert task.tuned(logits(0.2, 0.3, 0.9), torch.tensor(marks)).threshold == 0.5


def test_figures_against_scikit_learn():
    rng = np.random.default_rng(0)
    p, y = rng.random(60), (rng.random(60) < 0.3).astype(float)
    found = Binary("t", "x", ["no", "yes"], threshold=0.4).metrics(logits(*p), torch.tensor(y))
    assert found["f1"] == pytest.approx(f1_score(y, p >= 0.4))
    assert found["pr_auc"] == pytest.approx(average_precision_score(y, p))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, p))
    assert found["positives"] == y.sum()


def test_figures_by_hand(task):
    # Called yes: 0.9 (right), 0.6 (wrong). Missed: 0.4.
    found = task.metrics(*VALIDATION)
    assert (found["n"], found["positives"]) == (4, 2)
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (0.5,) * 4
    assert found["confusion_matrix"] == [[1, 1], [1, 1]]
    assert found["classes"] == ["no", "yes"]
    # Of the pairs (0.9, 0.4) x (0.6, 0.2), three are in order. Recall rises by halves at
    # precisions of 1 and 2/3.
    assert found["roc_auc"] == pytest.approx(3 / 4)
    assert found["pr_auc"] == pytest.approx(1 / 2 + 1 / 3)
    assert task.score(found) == found["pr_auc"]
    assert task.changed(select_by="f1").score(found) == 0.5


def test_without_positives_nothing_is_said_of_them(task):
    found = task.metrics(logits(0.9, 0.2), torch.tensor([0.0, 0.0]))
    assert found["accuracy"] == 0.5
    for key in ("f1", "precision", "recall", "pr_auc", "roc_auc"):
        assert found[key] is None
    assert task.score(found) is None


def test_without_negatives_there_is_no_order_to_measure(task):
    found = task.metrics(logits(0.9, 0.2), torch.tensor([1.0, 1.0]))
    assert (found["recall"], found["precision"]) == (0.5, 1.0)
    assert found["pr_auc"] is found["roc_auc"] is None


@pytest.mark.parametrize(
    ("cells", "options", "classes"),
    [
        (["1", "0", "0", "1"], {}, ["0", "1"]),
        (["yes", "yes", "no"], {}, ["no", "yes"]),  # said, though it is not the rarer one
        ([True, False, True], {}, ["False", "True"]),
        (["spam", "ham", "ham"], {}, ["ham", "spam"]),  # the rarer one
        (["ham", "spam", "spam"], {}, ["spam", "ham"]),
        (["b", "a"], {}, ["a", "b"]),  # of equals the later name
        (["yes", "true", "true"], {}, ["true", "yes"]),  # no opposites: the rarer one
        (["x", "y", "y"], {}, ["y", "x"]),  # y is no yes here
        (["r", "t", "t"], {}, ["t", "r"]),
        (["1", "2", "1"], {}, ["1", "2"]),
        (["N", "Y", "Y"], {}, ["N", "Y"]),
        (["t", "f", "t"], {}, ["f", "t"]),
        ([-1, 1, 1], {}, ["-1", "1"]),
        (["1", "0", "0"], {"positive": "0"}, ["1", "0"]),
        (["1", "0", "0"], {"positive": 0.0}, ["1", "0"]),  # as cells are read
    ],
)
def test_which_class_is_meant(fitted, cells, options, classes):
    found = fitted("t", cells, kind="binary", **options)
    assert found.classes == classes
    assert found.positive == classes[1]
    assert found.notes()[0] == f"t: {classes[1]} is the positive class, {classes[0]} the other"


def test_weights_of_the_training_rows(fitted):
    found = fitted("t", ["no"] * 3 + ["yes", None], kind="binary", class_weights="balanced")
    assert found.class_weights == pytest.approx([4 / 6, 4 / 2])
    assert "binary cross-entropy, class weights no 0.6667, yes 2" in found.notes()[1]
    assert fitted("t", ["no", "yes"], kind="binary").class_weights is None
    assert fitted("t", ["no", "yes"], kind="binary", threshold=0.25).threshold == 0.25


@pytest.mark.parametrize(
    ("cells", "splits", "options", "message"),
    [
        (["a", "b", "c"], "", {}, r"two classes .* t\. Found 3: a, b, c\. .* t:classification"),
        (["a", "a"], "", {}, r"`t` should have two classes in the train split.* Found 1: a\. "),
        ([None], "", {}, r"Found 0: none\."),
        (["a", "b", "c"], "tr tr va", {},
         r"every class in .* Found 'c' only in the validation split \(1 row\)\. .*:classif"),
        (["a", "b", "c"], "tr tr te", {}, r"Found 'c' only in the test split"),
        (["Yes", "yes", "no", "NO"], "", {},
         r"Found 4: NO, Yes, no, yes\. Correct the column, or write alike what differs only in "
         r"capital letters, or give another kind"),
        (["a", "b"], "", {"positive": "c"}, r"`t\.positive` should be a or b\. Found 'c'\."),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line(fitted, cells, splits, options, message):
    with pytest.raises(UserError, match=message) as caught:
        fitted("t", cells, splits, kind="binary", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 2, "half", True, NAN, None, [0.5]])
def test_a_threshold_is_a_probability(asked, threshold):
    with pytest.raises(ValueError, match=r"`t\.threshold` should be between 0 and 1, or `valid"):
        asked(t={"kind": "binary", "threshold": threshold})


def test_baselines_by_hand(task):
    train = UP + DOWN, task.encode(["yes"] * 6 + ["no"] * 11 + [None])
    inner = ["margin rose", "margin fell"], task.encode(["yes", "no"])
    test = ["costs rose", "costs fell", "tax fell", "rent fell"]
    rows = task.baselines(train, (test, task.encode(["yes", "no", "no", "no"])), inner)
    assert list(rows) == ["majority class", "always yes", "TF-IDF + logistic regression"]
    majority, always, linear = rows.values()
    assert (majority["accuracy"], majority["f1"], majority["pr_auc"]) == (0.75, 0.0, 0.25)
    assert (always["precision"], always["recall"], always["roc_auc"]) == (0.25, 1.0, 0.5)
    assert always["f1"] == pytest.approx(0.4)
    assert (linear["f1"], linear["pr_auc"]) == (1.0, 1.0)
    assert linear["threshold"] != 0.5  # chosen on validation, as that of the model is
    # The threshold that suits the outputs of this model suits no other.
    tuned = task.tuned(logits(0.99, 0.98), inner[1])
    assert tuned.threshold == pytest.approx(0.99)
    assert tuned.baselines(train, inner, inner) == task.baselines(train, inner, inner)
    half = task.at_one_half().baselines(train, inner, inner)
    assert half["TF-IDF + logistic regression"]["threshold"] == 0.5


def test_the_majority_may_be_the_class_that_is_meant(task):
    train = UP + DOWN[:2], task.encode(["yes"] * 6 + ["no"] * 2)
    rows = task.baselines(train, train, train)
    assert rows["majority class"] == rows["always yes"]
    assert rows["always yes"]["accuracy"] == 0.75
