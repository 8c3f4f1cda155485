"""Plain models on TF-IDF features: what a fine-tuned encoder has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.learner.kinds.parts.text import normalised, word_pattern

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator
    from sklearn.feature_extraction.text import TfidfVectorizer

__all__ = ["LINEAR", "classify", "features", "regress"]

LINEAR = "TF-IDF + logistic regression"
"""What tables call it."""
FOLDS = 3
SCORERS = {
    "accuracy": "accuracy",
    "macro_f1": "f1_macro",
    "f1": "f1",
    "roc_auc": "roc_auc",
    "pr_auc": "average_precision",
}
"""What selects a model -> what scikit-learn calls it."""


@lru_cache(maxsize=4)
def features(train: tuple[str, ...]) -> tuple[TfidfVectorizer, csr_matrix]:
    """TF-IDF of words and word pairs that occur in at least two training texts.

    What a word is: `dao.learner.kinds.parts.text.word_pattern`.

    Texts without spaces, as in Chinese, use runs of one to three characters instead; data too
    small for any term to occur twice keeps every term.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaces = sum(text.count(" ") for text in train) / max(1, sum(map(len, train)))
    words: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": word_pattern()}
    unit: dict[str, Any] = words if spaces > 0.02 else {"analyzer": "char", "ngram_range": (1, 3)}
    unit = {"sublinear_tf": True, "preprocessor": normalised, **unit}
    try:
        vectorizer = TfidfVectorizer(min_df=2, **unit)
        return vectorizer, vectorizer.fit_transform(train)
    except ValueError:  # nothing left after pruning
        vectorizer = TfidfVectorizer(**{**unit, "token_pattern": r"\S+"})
        return vectorizer, vectorizer.fit_transform(train)


def classify(
    train: Sequence[str],
    classes: np.ndarray,
    other: Sequence[str],
    *,
    outputs: int,
    balanced: bool = False,
    select_by: str = "accuracy",
    positive: int = 0,
) -> np.ndarray:
    """Class probabilities (n, outputs) by logistic regression, its C cross-validated in train.

    Args:
        train: texts.
        classes: their class indices.
        other: n texts to classify.
        outputs: number of classes.
        balanced: whether the loss weighs classes by how rare they are.
        select_by: what C is chosen by: a key of `SCORERS`; qwk, the quadratic weighted kappa; or
            rare_f1, the F1 of one class.
        positive: index of that class.
    """
    found = np.zeros((len(other), outputs))
    if np.unique(classes).size < 2:
        found[:, classes[0]] = 1.0
        return found
    chosen = (select_by, positive if select_by == "rare_f1" else 0)
    vectorizer, model = _classifier(tuple(train), tuple(classes.tolist()), balanced, chosen)
    found[:, model.classes_] = model.predict_proba(vectorizer.transform(other))
    return found


def regress(train: Sequence[str], scores: np.ndarray, other: Sequence[str]) -> np.ndarray:
    """Scores from ridge regression, its penalty chosen by cross-validation in train."""
    vectorizer, model = _regressor(tuple(train), tuple(scores.tolist()))
    return np.asarray(model.predict(vectorizer.transform(other)))


# Kept, because a run asks for every split, and many runs in one process share their data.
@lru_cache(maxsize=256)
def _classifier(
    texts: tuple[str, ...], classes: tuple[int, ...], balanced: bool, chosen: tuple[str, int]
) -> tuple[TfidfVectorizer, BaseEstimator]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    _, counts = np.unique(classes, return_counts=True)
    vectorizer, seen = features(texts)
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    folds = min(FOLDS, int(counts.min()))
    if folds > 1:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
        scorer = _scorer(*chosen)
        model = GridSearchCV(model, {"C": [1.0, 4.0, 16.0]}, cv=splitter, scoring=scorer)
    return vectorizer, model.fit(seen, np.asarray(classes))


def _scorer(select_by: str, positive: int) -> Any:  # noqa: ANN401  (a name, or scikit-learn's own)
    from sklearn.metrics import cohen_kappa_score, f1_score, make_scorer

    if select_by == "rare_f1":
        return make_scorer(f1_score, labels=[positive], average="macro", zero_division=0)
    if select_by == "qwk":  # every fold has rows of every class: places of classes are levels'
        return make_scorer(cohen_kappa_score, weights="quadratic")
    return SCORERS[select_by]


@lru_cache(maxsize=256)
def _regressor(
    texts: tuple[str, ...], scores: tuple[float, ...]
) -> tuple[TfidfVectorizer, BaseEstimator]:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, KFold

    vectorizer, seen = features(texts)
    model = Ridge(solver="sparse_cg", random_state=0)
    if len(scores) >= FOLDS:
        splitter = KFold(FOLDS, shuffle=True, random_state=0)
        grid = {"alpha": [0.3, 1.0, 3.0, 10.0]}
        model = GridSearchCV(model, grid, cv=splitter, scoring="neg_mean_squared_error")
    return vectorizer, model.fit(seen, np.asarray(scores))
