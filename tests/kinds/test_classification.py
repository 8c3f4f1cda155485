import json
import math

import numpy as np
import pytest
import torch

from dao.errors import UserError
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.parts.class_losses import class_weights
from dao.learner.kinds.recorded import restored_tasks

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
TARGETS = torch.tensor([0, 1, 2, -100])


@pytest.fixture
def task():
    return Classification("cls", "mood", ["negative", "neutral", "positive"])


def test_encode_marks_missing_and_follows_class_order(task):
    codes = task.encode(["positive", None, "negative"])
    assert codes.tolist() == [2, -100, 0]
    assert codes.dtype == torch.int64
    assert task.labelled(codes).tolist() == [True, False, True]


@pytest.mark.parametrize("value", ["1", 1, 1.0, "1.0", " 1 "])
def test_integer_like_labels_of_all_formats_agree(value):
    assert Classification("cls", "label", ["0", "1"]).encode([value]).tolist() == [1]


def test_unknown_class_names_column_row_and_value(task):
    with pytest.raises(UserError, match=r"`mood` should be one of negative.*'gloomy' in row 2"):
        task.encode(["neutral", "gloomy"])


@pytest.mark.parametrize("value", [["neutral"], {"class": "neutral"}, math.nan])
def test_encode_refuses_what_is_no_class(task, value):
    with pytest.raises(UserError, match=r"`mood` should be a class name.*in row 1"):
        task.encode([value])


def test_loss_is_the_mean_negative_log_likelihood(task):
    known = task.labelled(TARGETS)
    rows = [
        -math.log(math.exp(LOGITS[i, t]) / LOGITS[i].exp().sum()) for i, t in enumerate((0, 1, 2))
    ]
    assert task.loss(LOGITS[known], TARGETS[known]).item() == pytest.approx(sum(rows) / 3)


def test_class_weights_make_the_loss_a_weighted_mean():
    task = Classification("cls", "label", ["a", "b"], class_weights=[3.0, 1.0])
    outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    one, two = (-outputs.log_softmax(-1)[0]).tolist()
    assert task.loss(outputs, torch.tensor([0, 1])).item() == pytest.approx((3 * one + two) / 4)


def test_predict_gives_labels_and_probabilities(task):
    columns = task.predict(LOGITS[:2])
    assert columns["cls"] == ["negative", "neutral"]
    assert list(columns) == ["cls", "cls_p_negative", "cls_p_neutral", "cls_p_positive"]
    assert sum(columns[name][0] for name in list(columns)[1:]) == pytest.approx(1)
    assert columns["cls_p_negative"][0] == pytest.approx(math.e**2 / (math.e**2 + 2))


def test_metrics_by_hand(task):
    # Of three labelled rows the third, positive, is called neutral.
    metrics = task.metrics(LOGITS, TARGETS)
    assert metrics["n"] == 3
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["weighted_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["per_class"]["neutral"] == pytest.approx(
        {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}
    )
    assert metrics["classes"] == ["negative", "neutral", "positive"]
    assert metrics["confusion_matrix"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert task.score(metrics) == metrics["accuracy"]
    json.dumps(metrics, allow_nan=False)


def test_metrics_without_any_label(task):
    metrics = task.metrics(LOGITS[:1], torch.tensor([-100]))
    assert metrics == {"n": 0}
    assert task.score(metrics) is None


def test_headline_metrics_exist(task):
    assert {name for name, _ in task.headline} <= set(task.metrics(LOGITS, TARGETS))


def test_fit_sorts_classes_of_the_training_rows(fitted):
    task = fitted("cls", ["pos", "neg", None, "neu"])
    assert task.classes == ["neg", "neu", "pos"]
    assert task.outputs == 3
    assert task.class_weights is None


def test_fit_balances_classes(fitted):
    task = fitted("cls", ["a", "a", "a", "b", None], class_weights="balanced")
    assert task.class_weights == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])


def test_fit_refuses_another_rule(fitted):
    with pytest.raises(
        ValueError, match=r"`cls.class_weights` should be none, balanced or effective. Found 'sq"
    ):
        fitted("cls", ["a", "b"], class_weights="sqrt")
    with pytest.raises(
        UserError, match=r"`class_weights` .* none, balanced or effective. Found 'sq"
    ):
        class_weights("sqrt", {"a": 1, "b": 1})


def test_fit_refuses_no_labels(fitted):
    with pytest.raises(UserError, match=r"`label` .* two classes .* Found: no label at all"):
        fitted("cls", [None, None])


def test_fit_refuses_one_class(fitted):
    with pytest.raises(UserError, match=r"at least two classes.*Found: a\. .*cls\.column=COLUMN"):
        fitted("cls", ["a", "a"])


@pytest.mark.parametrize(("mark", "split"), [("va", "validation"), ("te", "test")])
def test_fit_refuses_a_class_that_training_lacks(fitted, mark, split):
    with pytest.raises(UserError, match=rf"Found 'c' only in the {split} split \(1 row\)"):
        fitted("cls", ["a", "b", "c"], f"tr tr {mark}")


def test_state_survives_json(fitted):
    task = fitted("cls", ["a", "b", "b"], class_weights="balanced")
    again = restored_tasks({"cls": json.loads(json.dumps(task.to_dict()))})["cls"]
    assert again.to_dict() == task.to_dict()
    assert again.encode(["b"]).tolist() == [1]


def test_compare_counts_classes_absent_from_the_rows(task):
    metrics = task.compare(np.array([0, 0]), np.array([0, 0]))
    assert metrics["macro_f1"] == 1.0
    assert metrics["per_class"]["positive"]["support"] == 0


TWO = ["hate", "other"]
SIX = torch.tensor([0, 1, 1, 0, 1, -100])
# Probabilities of hate in falling order: 0.9 (hate), 0.8 (other), 0.6 (hate), 0.3, 0.1 (other).
HATE = torch.tensor([0.9, 0.8, 0.1, 0.6, 0.3, 0.7])
SCORES = torch.stack([HATE, 1 - HATE], 1).log()


def test_figures_of_the_rare_class_by_hand():
    task = Classification("cls", "label", TWO, select_by="rare_f1", positive="hate")
    metrics = task.metrics(SCORES, SIX)
    # Called hate: 0.9, 0.8, 0.6; of the two that are, both.
    assert metrics["rare_precision"] == pytest.approx(2 / 3)
    assert metrics["rare_recall"] == 1.0
    assert metrics["rare_f1"] == pytest.approx(0.8)
    assert task.score(metrics) == metrics["rare_f1"]
    # Of 2 x 3 pairs only (0.6, 0.8) is the wrong way round.
    assert metrics["rare_roc_auc"] == pytest.approx(5 / 6)
    # Recall rises by a half at precision 1 and by a half at precision 2/3.
    assert metrics["rare_pr_auc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics["ranking"]["hate"] == {
        "roc_auc": metrics["rare_roc_auc"],
        "pr_auc": metrics["rare_pr_auc"],
    }
    # One against the rest, from the other side: ranks 1, 2, 4 are hits of 3.
    assert metrics["ranking"]["other"]["pr_auc"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert {name for name, _ in task.headline} <= set(metrics)
    json.dumps(metrics, allow_nan=False)


def test_figures_are_none_where_a_class_is_missing():
    task = Classification("cls", "label", TWO, select_by="rare_f1", positive="hate")
    metrics = task.metrics(SCORES[1:3], SIX[1:3])
    for name in ("precision", "recall", "f1", "roc_auc", "pr_auc"):
        assert metrics[f"rare_{name}"] is None
    assert task.score(metrics) is None
    assert metrics["ranking"]["other"] == {"roc_auc": None, "pr_auc": None}
    json.dumps(metrics, allow_nan=False)


def test_three_classes_are_ranked_each_against_the_rest(task):
    metrics = task.metrics(LOGITS, TARGETS)
    # Each of the three rows has the largest probability of its class but for `positive`, whose
    # row is second to none there either: 0.0, 0.0, 0.5.
    assert {v["roc_auc"] for v in metrics["ranking"].values()} == {1.0}
    assert "rare_f1" not in metrics


@pytest.mark.parametrize(
    ("labels", "options", "positive"),
    [
        (["b"] * 3 + ["a"] * 4, {}, "b"),  # of two, the one of fewer rows
        (["a"] * 4 + ["b"] * 4 + ["c"] * 4, {}, None),  # none of three is rare
        (["a"] * 5 + ["b"] * 5 + ["c"] * 2, {}, "c"),
        (["a"] * 4 + ["b"] * 4 + ["c"] * 4, {"select_by": "rare_f1"}, "a"),
        (["a"] * 5 + ["b"] * 5 + ["c"] * 2, {"positive": "b"}, "b"),
    ],
)
def test_which_class_is_the_rare_one(fitted, labels, options, positive):
    assert fitted("cls", labels, **options).positive == positive


def test_a_positive_that_is_no_class_is_refused(fitted):
    with pytest.raises(UserError, match=r"`cls.positive` should be one of the classes a, b.*'c'"):
        fitted("cls", ["a", "b"], positive="c")


@pytest.mark.parametrize(
    ("select_by", "headline"), [("accuracy", 2), ("macro_f1", 2), ("rare_f1", 7)]
)
def test_a_model_is_selected_by_what_was_asked_for(select_by: str, headline: int):
    task = Classification("cls", "label", TWO, select_by=select_by, positive="hate")
    metrics = task.metrics(SCORES, SIX)
    assert task.score(metrics) == metrics[select_by]
    assert len(task.headline) == headline


def test_a_state_of_before_has_accuracy_and_no_rare_class():
    state = {"name": "cls", "column": "label", "classes": TWO, "class_weights": None}
    task = Classification.from_dict(state)
    assert (task.select_by, task.positive) == ("accuracy", None)


def test_baselines_of_a_rare_class():
    train = ["bad awful"] * 1 + ["bad worse"] * 2 + ["good fine"] * 18
    targets = torch.tensor([0] * 3 + [1] * 18)
    task = Classification("cls", "label", TWO, select_by="rare_f1", positive="hate")
    test = ["bad", "good", "good", "good"], torch.tensor([0, 1, 1, 1])
    rows = task.baselines((train, targets), test, test)
    assert list(rows) == ["majority class", "always hate", "TF-IDF + logistic regression"]
    always, majority = rows["always hate"], rows["majority class"]
    assert always["rare_recall"] == 1.0
    assert always["rare_f1"] == pytest.approx(2 * 0.25 / 1.25)  # precision is the share, 1/4
    assert always["rare_pr_auc"] == pytest.approx(0.25)
    assert always["rare_roc_auc"] == majority["rare_roc_auc"] == 0.5
    assert majority["rare_f1"] == 0.0
    assert rows["TF-IDF + logistic regression"]["rare_pr_auc"] == 1.0
    common = Classification("cls", "label", TWO, positive="hate")
    half = torch.tensor([0, 1] * 10 + [0])
    assert "always hate" not in common.baselines((train, half), (train, half), (train, half))
