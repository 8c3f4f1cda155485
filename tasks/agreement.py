"""How far people who rated the same texts agree: what a model's correlation is to be read beside.

Each text has ratings of its own, in no order and of raters without names. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["one_against_rest", "spearman_brown", "split_halves"]

Ratings = Sequence[Sequence[float]]
Floats = NDArray[np.float64]


def one_against_rest(ratings: Ratings) -> float:
    """Pearson correlation of one rating with the mean of the other ratings of its text.

    Each rating takes its turn as the one. Every text counts once, however many rated it: of n
    ratings each has the weight 1/n.

    Args:
        ratings: per text, at least two.

    Returns:
        NaN where either side never varies.

    Example:
        >>> one_against_rest([[0, 0], [1, 3], [3, 3]])
        0.6470588235294116
    """
    ones, rests, weights = [], [], []
    for block in _blocks(ratings):
        count = block.shape[1]
        ones.append(block.ravel())
        rests.append(((block.sum(1, keepdims=True) - block) / (count - 1)).ravel())
        weights.append(np.full(block.size, 1 / count))
    return _pearson(*map(np.concatenate, (ones, rests, weights)))


def split_halves(ratings: Ratings, seeds: Sequence[int] = range(10)) -> float:
    """Pearson correlation of the means of two random halves of each text's ratings.

    Of an odd number of ratings the one in the middle goes to the second half.

    Args:
        ratings: per text, at least two.
        seeds: of the halves; the correlation is the mean over them.

    Example:
        >>> split_halves([[0, 1], [5, 6], [9, 8]], seeds=[0]) > 0.9
        True
    """
    blocks = _blocks(ratings)
    return float(np.mean([_halves(blocks, seed) for seed in seeds]))


def _halves(blocks: Sequence[Floats], seed: int) -> float:
    rng, one, other = np.random.default_rng(seed), [], []
    for block in blocks:
        shuffled, half = rng.permuted(block, axis=1), block.shape[1] // 2
        one.append(shuffled[:, :half].mean(1))
        other.append(shuffled[:, half:].mean(1))
    first, second = np.concatenate(one), np.concatenate(other)
    return _pearson(first, second, np.ones(len(first)))


def spearman_brown(halves: float) -> float:
    """The correlation of two means of twice as many ratings each: 2 r / (1 + r).

    That is how the mean of all ratings would correlate with that of as many others (Spearman 1910,
    Brown 1910).

    Example:
        >>> spearman_brown(0.5)
        0.6666666666666666
    """
    return 2 * halves / (1 + halves)


def _blocks(ratings: Ratings) -> list[Floats]:
    """The ratings of texts with equally many of them, as (texts, ratings)."""
    by_count: dict[int, list[Sequence[float]]] = {}
    for own in ratings:
        by_count.setdefault(len(own), []).append(own)
    if not by_count or min(by_count) < 2:
        raise ValueError("every text should have two ratings or more")
    return [np.asarray(rows, dtype=np.float64) for _, rows in sorted(by_count.items())]


def _pearson(one: Floats, other: Floats, weights: Floats) -> float:
    x, y = (values - np.average(values, weights=weights) for values in (one, other))
    spread = np.sqrt((weights * x * x).sum() * (weights * y * y).sum())
    return float((weights * x * y).sum() / spread) if spread > 0 else float("nan")
