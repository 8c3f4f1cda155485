"""The figures of classes are scikit-learn's, whatever is missing or tied."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
)

from dao.learner.kinds.binary import Binary
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.parts.class_figures import areas, class_figures

NAMES = ("a", "b", "c", "d")


@pytest.fixture(params=range(12))
def rows(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets, in which the first classes alone may occur."""
    rng = np.random.default_rng(request.param)
    number, occurring = rng.integers(3, 40), rng.integers(2, len(NAMES) + 1)
    predicted, actual = rng.integers(occurring, size=(2, number))
    actual[:2] = 0, 1
    return predicted, actual


def test_figures_of_decisions(rows):
    predicted, actual = rows
    found = class_figures(predicted, actual, NAMES)
    assert found["accuracy"] == accuracy_score(actual, predicted)
    for average in ("macro", "weighted"):
        expected = f1_score(actual, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected, rel=1e-12)
    expected = precision_recall_fscore_support(actual, predicted, labels=range(4), zero_division=0)
    for index, name in enumerate(NAMES):
        assert [*found["per_class"][name].values()] == [column[index] for column in expected]
    counts = confusion_matrix(actual, predicted, labels=range(4)).tolist()
    assert found["confusion_matrix"] == counts


def test_figures_of_yes_and_no(rows):
    predicted, actual = (part == 1 for part in rows)
    found = Binary("t", "x", ["no", "yes"]).compare(predicted.astype(int), actual.astype(int))
    assert found["accuracy"] == accuracy_score(actual, predicted)
    for key, of in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert found[key] == of(actual, predicted, zero_division=0)
    assert found["confusion_matrix"] == confusion_matrix(actual, predicted).tolist()


def test_kappa(rows):
    predicted, actual = rows
    expected = cohen_kappa_score(actual, predicted, labels=range(4), weights="quadratic")
    found = Ordinal("t", "x", NAMES).compare(predicted, actual)["qwk"]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_areas_with_ties_and_without(rows, decimals: int):
    positive = rows[1] == 1
    scores = np.random.default_rng(0).random(len(positive)).round(decimals)
    roc, precision_recall = areas(positive, scores)
    assert roc == pytest.approx(roc_auc_score(positive, scores), rel=1e-12)
    assert precision_recall == pytest.approx(average_precision_score(positive, scores), rel=1e-12)
