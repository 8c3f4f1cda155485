"""Thresholds: chosen on validation by F1, measured on test beside the most probable class."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from dao.errors import UserError
from dao.learner.inference.threshold_report import sweep_run, sweep_table
from dao.learner.kinds.classification import Classification
from dao.learner.scoring.threshold import Part, best_threshold, f1, sweep

TRUE, FALSE = True, False


def marked(*pairs: tuple[float, bool]) -> Part:
    """Rows of one class among two."""
    scores, positive = (np.array(column) for column in zip(*pairs, strict=True))
    return Part(positive, scores, scores >= 0.5)


VALIDATION = marked(
    (0.4, TRUE), (0.35, TRUE), (0.3, FALSE), (0.2, TRUE), (0.1, FALSE), (0.05, FALSE)
)


def test_the_threshold_of_the_best_f1_by_hand():
    # From 0.4 on: 2 x 1 / (1 + 3); 0.35: 4/5; 0.3: 4/6; 0.2: 6/7; 0.1: 6/8.
    assert best_threshold(*VALIDATION[:2]) == 0.2
    # Both 0.9 (2/3) and 0.2 (4/6) are best: fewer rows are called.
    assert best_threshold(*marked((0.9, TRUE), (0.5, FALSE), (0.4, FALSE), (0.2, TRUE))[:2]) == 0.9


def test_f1_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    positive, called = rng.random((2, 7, 50)) < 0.3
    expected = [f1_score(p, c) for p, c in zip(positive, called, strict=True)]
    assert f1(positive, called) == pytest.approx(expected)
    assert f1(np.zeros(3, bool), np.zeros(3, bool)) == 0.0


def test_figures_on_test_by_hand():
    test = marked((0.6, TRUE), (0.3, TRUE), (0.25, FALSE), (0.15, TRUE), (0.1, FALSE))
    found = sweep(VALIDATION, test)
    assert found["threshold"] == 0.2
    assert found["test"]["chosen"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "called": 3}
    )
    assert found["test"]["usual"] == pytest.approx(
        {"precision": 1.0, "recall": 1 / 3, "f1": 0.5, "called": 1}
    )
    assert found["validation"]["chosen"]["f1"] == pytest.approx(6 / 7)
    assert found["difference"]["f1"] == pytest.approx(1 / 6)
    low, high = found["difference"]["interval95"]
    assert low < 0 < 1 / 6 < high
    assert "does not beat the most probable class on test beyond chance" in found["verdict"]
    assert sweep(VALIDATION, test) == found


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((0.35, 0.1), "beats the most probable class on test"),
        ((0.6, 0.4), "is worse than the most probable class on test"),
    ],
)
def test_the_verdict_follows_the_interval(scores: tuple[float, float], words: str):
    # The threshold is 0.2: it finds what 0.5 misses, or calls the class what 0.5 does not.
    test = marked(*[(scores[0], TRUE), (scores[1], FALSE)] * 40)
    found = sweep(VALIDATION, test)
    assert words in found["verdict"]
    low, high = found["difference"]["interval95"]
    assert (low > 0) if "beats" in words else (high < 0)


def test_the_same_decisions_differ_by_nothing():
    test = marked(*[(0.9, TRUE), (0.1, FALSE)] * 5)
    found = sweep(VALIDATION, test)
    assert found["difference"] == {"f1": 0.0, "interval95": [0.0, 0.0], "resamples": 2000}
    assert "does not beat" in found["verdict"]


def test_of_three_classes_the_most_probable_is_usual_and_may_be_below_one_half(tmp_path: Path):
    # Every row of "a" is called so at a probability of 0.4, and no other: nothing is gained.
    texts = ["a", "b", "c"] * 10
    logits = {"a": [0.4, 0.3, 0.3], "b": [0.1, 0.8, 0.1], "c": [0.1, 0.1, 0.8]}
    table = SimpleNamespace(rows=lambda _: pd.DataFrame({"text": texts, "cls": texts}))
    task = Classification("cls", "label", ["a", "b", "c"], positive="a")
    found = sweep_run(lambda rows: {"cls": torch.tensor([logits[t] for t in rows]).log()}, task,
                      table, tmp_path)  # fmt: skip
    assert found["test"]["usual"] == found["test"]["chosen"]
    assert found["test"]["usual"]["f1"] == 1.0
    assert found["usual"] == "the most probable class"
    # One word tells the class, so the plain model finds it, too, with a threshold of its own.
    assert found["plain"]["test"]["chosen"]["f1"] == 1.0
    assert found["plain"]["name"] == "TF-IDF + logistic regression"
    assert sweep_table(found).row_count == 6
    assert found["difference"]["interval95"] == [0.0, 0.0]


@pytest.mark.parametrize("kind", [TRUE, FALSE])
def test_a_split_of_one_kind_is_refused(kind: bool):
    said = r"rows of the class and others.*in the test split.*with urgent\.positive=CLASS"
    with pytest.raises(UserError, match=said):
        sweep(VALIDATION, marked((0.2, kind), (0.7, kind)), "urgent")
