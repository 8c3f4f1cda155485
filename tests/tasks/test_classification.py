import json
import math

import numpy as np
import pytest
import torch

from dao.errors import UserError
from tasks import TASKS, Classification

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


def test_fit_sorts_classes_of_the_training_rows(table):
    task = Classification.fit("cls", table("cls", ["pos", "neg", None, "neu"]))
    assert task.classes == ["neg", "neu", "pos"]
    assert task.outputs == 3
    assert task.class_weights is None


def test_fit_balances_classes(table):
    data = table("cls", ["a", "a", "a", "b", None])
    task = Classification.fit("cls", data, class_weights="balanced")
    assert task.class_weights == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])


def test_fit_refuses_another_rule(table):
    with pytest.raises(
        UserError, match=r"`class_weights` .* none, balanced or effective. Found 'sq"
    ):
        Classification.fit("cls", table("cls", ["a", "b"]), class_weights="sqrt")


def test_fit_refuses_no_labels(table):
    with pytest.raises(UserError, match=r"`label` .* two classes .* Found: no label at all"):
        Classification.fit("cls", table("cls", [None, None]))


def test_fit_refuses_one_class(table):
    with pytest.raises(UserError, match=r"at least two classes.*Found: a\. .*data\.cls=COLUMN"):
        Classification.fit("cls", table("cls", ["a", "a"]))


@pytest.mark.parametrize(("mark", "split"), [("va", "validation"), ("te", "test")])
def test_fit_refuses_a_class_that_training_lacks(table, mark, split):
    with pytest.raises(UserError, match=rf"Found 'c' only in the {split} split \(1 row\)"):
        Classification.fit("cls", table("cls", ["a", "b", "c"], f"tr tr {mark}"))


def test_state_survives_json(table):
    task = Classification.fit("cls", table("cls", ["a", "b", "b"]), class_weights="balanced")
    again = TASKS["cls"].from_dict(json.loads(json.dumps(task.to_dict())))
    assert again.to_dict() == task.to_dict()
    assert again.encode(["b"]).tolist() == [1]


def test_compare_counts_classes_absent_from_the_rows(task):
    metrics = task.compare(np.array([0, 0]), np.array([0, 0]))
    assert metrics["macro_f1"] == 1.0
    assert metrics["per_class"]["positive"]["support"] == 0
