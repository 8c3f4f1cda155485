"""Any number of labels: cells, missing and none, figures over labels and rows."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from dao.errors import UserError
from dao.learner.kinds.multilabel import Multilabel, split_labels

ABC = ["a", "b", "c"]


@pytest.fixture
def task():
    return Multilabel("tags", "topics", ABC)


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("b; a;b", ("a", "b")), ("a", ("a",)), ("a;;", ("a",)), (";", ()), (" ; ; ", ()),
        ("", None), (" ", None), (None, None), ([], ()), (["b", "a", "b"], ("a", "b")),
        ((), ()), ([""], ()), ([None, "a"], ("a",)), (np.array(["b", "a"]), ("a", "b")),
        ({"b", "a"}, ("a", "b")), (1.0, ("1",)), ([2, 10, 1.0], ("1", "2", "10")),
        ("10;9", ("9", "10")), (True, ("True",)),
    ],
)  # fmt: skip
def test_odd_cells(cell, labels):
    assert split_labels(cell) == labels


@pytest.mark.parametrize("cell", ["", " ", None])
def test_an_empty_cell_may_mean_no_label(cell):
    assert split_labels(cell, empty="none") == ()


def test_a_separator_of_space_can_stand_alone():
    assert split_labels(" ", " ") == ()
    assert split_labels("b a", " ") == ("a", "b")
    assert split_labels("", " ") is None


@pytest.mark.parametrize("cell", [math.nan, "a;nan", [["a"]], {"a": 1}, b"a", ["a", math.nan]])
def test_what_holds_no_labels(task, cell):
    with pytest.raises(UserError, match=r"`topics` should be labels in one text or in a list.*row"):
        task.encode([("a",), cell])


def test_no_label_is_told_from_a_missing_one(task):
    found = task.encode([("c", "a"), (), None])
    assert found[:2].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert found[2].isnan().all()
    assert task.labelled(found).tolist() == [True, True, False]
    assert task.row_weights(found).tolist() == [1, 1, 0]
    assert task.written([("a", "c"), (), None]) == ["a;c", ";", None]


def test_a_label_that_training_never_saw(task):
    with pytest.raises(UserError, match=r"`topics` .* one of a, b, c\. Found 'x' in row 2"):
        task.encode([("a",), ("a", "x")])


def test_the_loss_by_hand(agrees, task):
    marks = [[1, 0, 1], [0, 0, 0]]

    def reference(rows):
        chances = [[1 / (1 + math.exp(-z)) for z in row] for row in rows]
        terms = [
            -math.log(p if y else 1 - p)
            for row, true in zip(chances, marks, strict=True)
            for p, y in zip(row, true, strict=True)
        ]
        return sum(terms) / 6

    agrees(task, [[2.0, -0.5, 1.0], [0.1, -3.0, 0.0]], torch.tensor(marks).float(), reference)


def test_predictions(task):
    outputs = torch.tensor([[0.0, math.log(3), -9.0], [-9.0, -9.0, -9.0]])
    found = task.predict(outputs)
    assert list(found) == ["tags", "tags_p_a", "tags_p_b", "tags_p_c"]
    assert found["tags"] == ["a;b", ";"]  # from one half on
    assert found["tags_p_b"][0] == pytest.approx(0.75)
    assert task.changed(threshold=0.7, separator="|").predict(outputs)["tags"] == ["b", "|"]


PREDICTED = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
ACTUAL = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)


def test_figures_by_hand(task):
    found = task.compare(PREDICTED, ACTUAL)
    # a: two of two right, one missed; b: called once, wrongly; c occurs nowhere.
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["macro_f1"] == pytest.approx((2 * 2 / (2 + 3) + 0) / 2)
    assert found["subset_accuracy"] == 0.5
    assert found["per_label"]["a"] == pytest.approx(
        {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3}
    )
    assert found["per_label"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert found["per_label"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert task.row_scores(PREDICTED, ACTUAL).tolist() == [1, 0, 1, 0]
    for key in ("micro_f1", "macro_f1", "subset_accuracy"):
        assert task.changed(select_by=key).score(found) == found[key]
    json.dumps(found, allow_nan=False)


def test_figures_against_scikit_learn(task):
    rng = np.random.default_rng(0)
    predicted, actual = (rng.random((2, 40, 3)) < 0.4).astype(int)
    found = task.compare(predicted, actual)
    assert found["micro_f1"] == pytest.approx(f1_score(actual, predicted, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(actual, predicted))


def test_without_any_label_there_is_no_f1(task):
    none = np.zeros((2, 3), dtype=int)
    found = task.compare(none, none)
    assert found["micro_f1"] is found["macro_f1"] is None
    assert found["subset_accuracy"] == 1.0
    assert task.score(found) is None
    called = task.compare(none + 1, none)  # it is the targets that leave it undefined
    assert called["micro_f1"] is called["macro_f1"] is None
    assert called["subset_accuracy"] == 0.0


def test_a_single_label_is_a_label():
    task = Multilabel("t", "x", ["a"])
    found = task.compare(PREDICTED[:, :1], ACTUAL[:, :1])
    assert found["micro_f1"] == found["macro_f1"] == pytest.approx(0.8)
    assert found["subset_accuracy"] == 0.75
    assert found["per_label"] == {
        "a": pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    }
    assert task.predict(torch.tensor([[1.0], [-1.0]]))["t"] == ["a", ";"]


def test_labels_of_the_training_rows(fitted):
    cells = ["q10|q2", "q2", "", "|", "q1"]
    found = fitted("t", cells, kind="multilabel", separator="|")
    assert found.labels == ["q1", "q2", "q10"]
    assert found.notes() == ["t: 3 labels, q1, q2, q10"]
    assert found.unseen_parser()("q2| q1") == ("q1", "q2")
    assert found.unseen_parser()("") is None
    every = fitted("t", cells, kind="multilabel", separator="|", empty="none")
    assert every.unseen_parser()("") == ()


@pytest.mark.parametrize(
    ("cells", "splits", "options", "message"),
    [
        (["a;b", "a", "c"], "tr tr va", {}, r"`t` .* every label in the train split\. Found 'c' "
         r"only in the validation split \(1 row\)"),
        (["a;b", "a", "c", "c"], "tr tr te te", {}, r"only in the test split \(2 rows\)"),
        (["a;b", "a;b"], "", {}, r"labels that some training texts have and others have not\. "
         r"Found a, b in 2 rows\. .*t\.separator"),
        ([";", ";"], "", {}, r"Found no label in 2 rows"),
        ([None], "", {}, r"Found no label in 0 rows"),
        ([["a;b"], ["c"]], "", {}, r"`t\.separator` should be in no label.* Found ';' in 'a;b'"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_line(fitted, cells, splits, options, message):
    with pytest.raises(UserError, match=message) as caught:
        fitted("t", cells, splits, kind="multilabel", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"separator": ""}, "one or more characters"), ({"threshold": 0}, "above 0"),
     ({"threshold": 1}, "below 1"), ({"empty": "no"}, "missing or none")],
)  # fmt: skip
def test_options_out_of_range(asked, options, message):
    with pytest.raises(ValueError, match=rf"`t\.{next(iter(options))}` should be .*{message}"):
        asked(t={"kind": "multilabel", **options})


def test_a_split_gives_each_part_its_share_of_first_labels(task):
    assert [task.stratum(labels) for labels in (("a", "b"), ("b",), ())] == ["a", "b", "no label"]


def test_baselines_by_hand(task):
    texts = [f"{word} {i}" for word in ("cost", "delay", "cost delay") for i in range(4)]
    labels = [("a",)] * 4 + [("b",)] * 4 + [("a", "b")] * 4
    train = [*texts, "cost 4", "?"], task.encode([*labels, ("a",), None])
    test = ["cost", "delay", "cost delay", "?"], task.encode([("a",), ("b",), ("a", "b"), None])
    rows = task.baselines(train, test, test)
    assert list(rows) == ["majority class", "most frequent label", "TF-IDF + logistic regression"]
    majority, first, linear = rows.values()
    # a has 9 of 13 rows, b 8, c none: all are called a and b, or a alone.
    assert majority["micro_f1"] == pytest.approx(2 * 4 / (6 + 4))
    assert majority["subset_accuracy"] == pytest.approx(1 / 3)
    assert first["micro_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert first["macro_f1"] == pytest.approx((2 * 2 / (3 + 2) + 0) / 2)
    assert linear["micro_f1"] == linear["subset_accuracy"] == 1.0
    assert {row["n"] for row in rows.values()} == {3}
