"""Tests and intervals for a few paired runs, and for the test rows of two models; pure functions.

A result is null (None) where the data allow none: no pairs, one pair, a figure that is not finite
(leaving that pair out would favour the run that diverged), or differences that are all alike but
not 0 (no spread to judge by, as when two coarse figures happen to agree).

With n seeds the exact sign-flip test has 2^n equally likely outcomes, so its two-sided p is never
below 2 / 2^n: .0625 for five seeds, whatever the effect. Verdicts therefore rest on the t test;
the permutation p stands beside it as the figure without the assumption of normal differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

__all__ = [
    "Difference",
    "Discordance",
    "Interval",
    "Paired",
    "bootstrap_difference",
    "detectable",
    "holm",
    "mcnemar",
    "paired",
    "t_interval",
    "t_test",
]

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 9_999
EXACT_UP_TO = 15  # pairs; 2^15 sign patterns
SAMPLED = 99_999  # sign patterns beyond that

Interval = tuple[float, float]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """What n paired differences say about the true mean difference, in their own unit."""

    n: int
    mean: float | None
    sd: float | None
    """Of the differences, with n - 1."""
    t95: Interval | None
    """95 % interval of the mean by Student's t."""
    bca95: Interval | None
    """95 % interval by the BCa bootstrap (Efron 1987); too short for few pairs: with five it
    covers the truth about five times in six."""
    p_permutation: float | None
    """Exact sign-flip test, two-sided; sampled with a fixed seed beyond 15 pairs."""
    p_t: float | None
    """Paired t test, two-sided."""
    detectable: float | None
    """Smallest true mean difference that a test at 5 %, uncorrected, finds 4 times in 5."""


class Discordance(NamedTuple):
    """Exact McNemar test."""

    n: int
    """Examples."""
    only_a: int
    """Predictions that a alone has right, over all seeds."""
    only_b: int
    p: float | None


class Difference(NamedTuple):
    """Paired bootstrap of a mean difference, a - b."""

    n: int
    """Examples."""
    mean: float | None
    interval95: Interval | None
    p: float | None


def paired(differences: ArrayLike) -> Paired:
    """All of `Paired` for one difference per seed.

    Args:
        differences: (n,), of paired runs.

    Returns:
        Only n where a difference is not finite; only n and mean for one pair. Differences that are
        all 0 (two arms that compute the same) have intervals (0, 0) and p = 1; all alike but not 0,
        neither interval nor p_t.

    Example:
        >>> paired([0.02, 0.01, 0.03]).p_permutation
        0.25
    """
    values = _flat(differences)
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        return Paired(n, None, None, None, None, None, None, None)
    mean = float(values.mean())
    if n == 1:
        return Paired(n, mean, None, None, None, None, None, None)
    if not values.any():
        return Paired(n, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0), 1.0, 1.0, None)
    flipped = _sign_flip(values)
    if _alike(values):
        return Paired(n, mean, 0.0, None, None, flipped, None, None)
    sd = float(values.std(ddof=1))
    p = float(t_test(values))
    return Paired(n, mean, sd, t_interval(values), _bca(values), flipped, p, detectable(n, sd))


def t_test(differences: ArrayLike) -> Array:
    """Two-sided p of the paired t test: (..., n) to (...)."""
    result = stats.ttest_1samp(np.asarray(differences, dtype=float), 0.0, axis=-1)
    return np.asarray(result.pvalue, dtype=float)


def t_interval(values: ArrayLike) -> Interval | None:
    """95 % interval of the mean by Student's t; None for fewer than two finite values."""
    array = _flat(values)
    if len(array) < 2 or not np.isfinite(array).all():
        return None
    half = float(stats.t.ppf(1 - ALPHA / 2, len(array) - 1) * array.std(ddof=1))
    half /= math.sqrt(len(array))
    return float(array.mean()) - half, float(array.mean()) + half


def detectable(n: int, sd: float) -> float:
    """Smallest true mean difference that a paired t test finds with 80 % power at two-sided 5 %.

    Solves P(T > t(.975, n - 1)) = .8 for the noncentrality d sqrt(n) / sd of T; the chance to
    reject on the wrong side adds nothing that matters.

    Args:
        n: pairs, at least 2.
        sd: true standard deviation of the differences. With the one found in the same few pairs,
            the result is as uncertain as that.

    Example:
        >>> round(detectable(20, 1.0), 4)
        0.6604
    """
    df = n - 1
    critical = stats.t.ppf(1 - ALPHA / 2, df)

    def shortfall(shift: float) -> float:
        return float(stats.nct.sf(critical, df, shift)) - POWER

    return float(optimize.brentq(shortfall, 0.0, 3.0 * critical)) * sd / math.sqrt(n)


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> Discordance:
    """Whether two models are equally often right, exact and two-sided (McNemar 1947).

    For one run each it is the binomial test of the examples that one of them alone has right. For
    several, each example stands for all its seeds: the sum over seeds of (a right) - (b right)
    keeps its size and gets either sign with probability 1/2. Counting every seed's prediction as
    an example of its own would reject far too often, because seeds err on the same examples.

    Args:
        correct_a: (n,) or (seeds, n), whether a is right.
        correct_b: the same of b, for the same examples and seeds.
    """
    a, b = (np.atleast_2d(np.asarray(c, dtype=bool)) for c in (correct_a, correct_b))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n = a.shape[1]
    if n == 0:
        return Discordance(n, only_a, only_b, None)
    sums = abs(a.astype(int).sum(axis=0) - b.astype(int).sum(axis=0))
    chances = np.ones(1)  # of the totals -reach, ..., reach
    for size in range(1, int(sums.max()) + 1):
        count = int((sums == size).sum())
        spread = np.zeros(2 * size * count + 1)
        spread[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, spread)
    reach = len(chances) // 2
    total = abs(only_a - only_b)
    p = float(chances[abs(np.arange(-reach, reach + 1)) >= total].sum())
    return Discordance(n, only_a, only_b, min(1.0, p))


def bootstrap_difference(values_a: ArrayLike, values_b: ArrayLike, seed: int = 0) -> Difference:
    """Mean of a - b over examples, by the paired percentile bootstrap.

    Examples are drawn with replacement, each with all its seeds; p is twice the smaller share of
    resampled means on one side of 0, and never below 2 / 10,000.

    Args:
        values_a: (n,) or (seeds, n), for example squared errors.
        values_b: the same of b, for the same examples and seeds.
        seed: of the resampling.

    Returns:
        No interval and no p for fewer than two examples, figures that are not finite, or
        differences that are all alike but not 0; (0, 0) and 1 where all are 0.
    """
    a, b = (np.atleast_2d(np.asarray(v, dtype=float)) for v in (values_a, values_b))
    n = a.shape[1]
    values = (a - b).mean(axis=0)  # equally many seeds each, so the mean of means is the mean
    if n == 0 or not np.isfinite(values).all():
        return Difference(n, None, None, None)
    mean = float(values.mean())
    if n > 1 and not values.any():
        return Difference(n, 0.0, (0.0, 0.0), 1.0)
    if n == 1 or _alike(values):
        return Difference(n, mean, None, None)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=500, rng=seed
    )
    means, interval = result.bootstrap_distribution, result.confidence_interval
    side = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (float(side) + 1) / (RESAMPLES + 1))
    return Difference(n, mean, (float(interval.low), float(interval.high)), p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of one family by Holm's step-down rule (1979), in the order given.

    A missing p stays missing and does not count as a test.

    Example:
        >>> holm([0.01, 0.04, None, 0.03, 0.005])
        [0.03, 0.06, None, 0.06, 0.02]
    """
    found = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(found):
        largest = max(largest, min(1.0, p * (len(found) - rank)))
        adjusted[i] = largest
    return adjusted


def _flat(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=float).reshape(-1)


def _alike(values: Array) -> bool:
    """Equal up to rounding: differences of equal figures need not be equal to the last bit."""
    return bool(np.ptp(values) <= 1e-9 * abs(values).max())


def _sign_flip(values: Array) -> float:
    exact = len(values) <= EXACT_UP_TO
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=2 ** len(values) if exact else SAMPLED,
        batch=4096,
        rng=0,
    )
    return float(result.pvalue)


def _bca(values: Array) -> Interval | None:
    result = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="BCa", rng=0)
    low, high = (float(bound) for bound in result.confidence_interval)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
