import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from dao.learner.data.load import Columns, fit, load
from dao.learner.kinds.classification import Classification
from dao.learner.kinds.multilabel import Multilabel
from dao.learner.kinds.ordinal import Ordinal
from dao.learner.kinds.parts import baselines
from dao.learner.kinds.regression import Regression

UP = ["profit rose", "profit soared", "sales rose", "sales soared", "orders rose", "orders soared"]
DOWN = [text.replace("rose", "fell").replace("soared", "sank") for text in UP]


def test_classification_rows():
    task = Classification("cls", "label", ["bad", "good"])
    train = (UP + DOWN, task.encode(["good"] * 6 + ["bad"] * 5 + [None]))
    test = (["margin rose", "margin fell", "unlabelled"], task.encode(["good", "bad", None]))
    rows = task.baselines(train, test, test)
    assert rows["majority class"]["accuracy"] == 0.5
    assert rows["majority class"]["n"] == 2
    assert rows["TF-IDF + logistic regression"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("task", "chosen"),
    [(Ordinal("t", "x", ["1", "2"]), "qwk"),
     (Ordinal("t", "x", ["1", "2"], "accuracy"), "accuracy"),
     (Multilabel("t", "x", ["1", "2"]), "f1")],
)  # fmt: skip
def test_plain_models_are_tuned_by_what_their_rows_are_read_for(task, chosen, monkeypatch):
    asked = []

    def classify(train, classes, other, *, outputs, select_by):
        asked.append(select_by)
        return np.full((len(other), outputs), 0.5)

    monkeypatch.setattr(baselines, "classify", classify)
    train = (UP + DOWN, task.encode(["1"] * 6 + ["2"] * 6))
    task.baselines(train, train, train)
    assert set(asked) == {chosen}


def test_kappa_can_choose_a_plain_model():
    classes = np.array([0, 1, 2] * 8)
    texts = [f"{'low mid high'.split()[c]} {'ab'[i % 2]}" for i, c in enumerate(classes)]
    found = baselines.classify(texts, classes, texts, outputs=3, select_by="qwk")
    assert found.argmax(1).tolist() == classes.tolist()


def test_regression_rows():
    task = Regression("reg", "score")
    train = (UP + DOWN, task.encode([1.0] * 6 + [-1.0] * 6))
    test = ["margin rose", "margin fell"], task.encode([1.0, -1.0])
    rows = task.baselines(train, test, test)
    assert rows["mean predictor"]["mse"] == pytest.approx(1.0)
    assert rows["mean predictor"]["pearson"] == 0.0
    assert rows["TF-IDF + ridge regression"]["r2"] > 0.3


def test_rare_words_count_only_where_nothing_repeats():
    _, seen = baselines.features(("shares rose", "shares fell"))
    assert seen.shape[1] == 1  # "shares" alone is in two texts
    _, seen = baselines.features(("one two", "three four"))
    assert seen.shape[1] == 6  # four words, two pairs


def test_words_in_european_letters_are_those_of_scikit_learn():
    texts = [
        "Don't sell x-ray units_2, Größe 4.5 % of \u00a35m (a 10\u00b0 drop)!",
        "profit rose and rose again; EBIT-margin 12,3 of \u00a35m",
        "Größe, Don't; profit of 4.5 %",
    ]
    ours, found = baselines.features(tuple(texts))
    plain = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    expected = plain.fit_transform(texts)
    assert ours.vocabulary_ == plain.vocabulary_
    assert (found != expected).nnz == 0


def test_marks_and_emoji_are_parts_of_words_and_words():
    analyse = baselines.features(("लाभ कमी है", "लाभ कमी थी"))[0].build_analyzer()
    assert analyse("मुनाफ़ा बढ़ा")[:2] == ["मुनाफ़ा".replace("\u095e", "फ\u093c"), "बढ\u093cा"]
    assert analyse("good 👍🏽👎 day")[:4] == ["good", "👍🏽", "👎", "day"]
    assert analyse("Cafe\u0301")[:1] == ["caf\u00e9"]


@pytest.mark.parametrize("pair", [("तेज़ी", "मंदी"), ("कमी", "कम"), ("👍", "👎")])
def test_classes_told_by_marks_or_emoji_are_learned(pair):
    texts = [f"stock {i % 5} today {pair[i % 2]}" for i in range(40)]
    classes = np.array([i % 2 for i in range(40)])
    found = baselines.classify(texts, classes, [f"other {word}" for word in pair], outputs=2)
    assert found.argmax(1).tolist() == [0, 1]


def test_text_without_spaces_uses_characters():
    vectorizer, seen = baselines.features(("利润上升了", "利润下降了", "销售上升了"))
    assert seen.shape[1] > 5
    assert vectorizer.transform(["利润上升"]).nnz > 3


def test_a_single_training_class_is_predicted_everywhere():
    found = baselines.classify(["a b", "c d"], np.array([1, 1]), ["e"], outputs=2)
    assert found.tolist() == [[0.0, 1.0]]


def test_one_row_of_each_class_is_enough():
    train, classes = ["rose up", "fell down"], np.array([0, 1])
    found = baselines.classify(train, classes, ["fell", "rose"], outputs=3)
    assert found.argmax(1).tolist() == [1, 0]
    assert found.sum(1) == pytest.approx(1)
    assert found[:, 2].tolist() == [0.0, 0.0]


def test_a_second_split_is_not_fitted_again():
    baselines._regressor.cache_clear()
    task = Regression("reg", "score")
    for part in (UP, DOWN):
        rows = part, torch.linspace(-1, 1, 6)
        task.baselines((UP + DOWN, torch.linspace(-1, 1, 12)), rows, rows)
    assert baselines._regressor.cache_info().misses == 1


def test_baselines_repeat_exactly():
    task = Regression("reg", "score")
    targets = torch.linspace(-1, 1, 12)
    rows = UP, targets[:6]
    once, twice = (task.baselines((UP + DOWN, targets), rows, rows) for _ in range(2))
    assert once == twice


@pytest.mark.slow
def test_the_default_headlines_are_hard_for_a_bag_of_words(asked):
    table = load([], Columns(), tasks=asked(cls={}, reg={}))
    rows = {}
    train, test = table.rows("train"), table.rows("test")
    for name, task in fit(table).items():
        parts = [(part["text"].tolist(), task.encode(part[name])) for part in (train, test, test)]
        rows |= task.baselines(*parts)
    assert 0.35 < rows["majority class"]["accuracy"] < 0.5
    assert 0.68 < rows["TF-IDF + logistic regression"]["accuracy"] < 0.8
    assert abs(rows["mean predictor"]["r2"]) < 0.02
    assert 0.05 < rows["TF-IDF + ridge regression"]["r2"] < 0.35


def test_many_regression_tasks_are_fitted_once_each_for_all_splits():
    texts = [f"profit {'rose' if i % 2 else 'fell'} {i}" for i in range(12)]
    scores = [np.arange(12.0) * (task + 1) + 0.125 for task in range(6)]
    before = baselines._regressor.cache_info().misses
    for _ in ("validation", "test"):
        for own in scores:
            baselines.regress(texts, own, texts[:2])
    assert baselines._regressor.cache_info().misses - before == len(scores)
