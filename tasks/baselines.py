"""Plain models on TF-IDF features: what a fine-tuned encoder has to beat."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

__all__ = ["classify", "features", "regress"]

FOLDS = 3


def features(train: Sequence[str]) -> tuple[TfidfVectorizer, csr_matrix]:
    """TF-IDF of words and word pairs that occur in at least two training texts.

    Texts without spaces, as in Chinese, use runs of one to three characters instead; data too
    small for any term to occur twice keeps every term.
    """
    spaces = sum(text.count(" ") for text in train) / max(1, sum(map(len, train)))
    unit = {"ngram_range": (1, 2)} if spaces > 0.02 else {"analyzer": "char", "ngram_range": (1, 3)}
    try:
        vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, **unit)
        return vectorizer, vectorizer.fit_transform(train)
    except ValueError:  # nothing left after pruning
        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+", **unit)
        return vectorizer, vectorizer.fit_transform(train)


def classify(
    train: Sequence[str], classes: np.ndarray, other: Sequence[str], *, balanced: bool = False
) -> np.ndarray:
    """Class indices from logistic regression, its C chosen by cross-validation in train."""
    if np.unique(classes).size < 2:
        return np.full(len(other), classes[0])
    vectorizer, model = _classifier(tuple(train), tuple(classes.tolist()), balanced)
    return np.asarray(model.predict(vectorizer.transform(other)))


def regress(train: Sequence[str], scores: np.ndarray, other: Sequence[str]) -> np.ndarray:
    """Scores from ridge regression, its penalty chosen by cross-validation in train."""
    vectorizer, model = _regressor(tuple(train), tuple(scores.tolist()))
    return np.asarray(model.predict(vectorizer.transform(other)))


# Kept, because a run asks for every split, and many runs in one process share their data.
@lru_cache(maxsize=4)
def _classifier(
    texts: tuple[str, ...], classes: tuple[int, ...], balanced: bool
) -> tuple[TfidfVectorizer, BaseEstimator]:
    _, counts = np.unique(classes, return_counts=True)
    vectorizer, seen = features(texts)
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    folds = min(FOLDS, int(counts.min()))
    if folds > 1:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
        model = GridSearchCV(model, {"C": [1.0, 4.0, 16.0]}, cv=splitter)
    return vectorizer, model.fit(seen, np.asarray(classes))


@lru_cache(maxsize=4)
def _regressor(
    texts: tuple[str, ...], scores: tuple[float, ...]
) -> tuple[TfidfVectorizer, BaseEstimator]:
    vectorizer, seen = features(texts)
    model = Ridge(solver="sparse_cg", random_state=0)
    if len(scores) >= FOLDS:
        splitter = KFold(FOLDS, shuffle=True, random_state=0)
        grid = {"alpha": [0.3, 1.0, 3.0, 10.0]}
        model = GridSearchCV(model, grid, cv=splitter, scoring="neg_mean_squared_error")
    return vectorizer, model.fit(seen, np.asarray(scores))
