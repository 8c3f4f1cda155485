"""From figures per seed, and predictions per test row, to tested differences with a verdict.

A difference is called higher or lower where its p, adjusted by Holm's rule over its family, is
below .05: for seeds the p of the paired t test, since the exact permutation test of five seeds
cannot go below .0625. With a p that is not below, the words are "no significant difference";
where there is none (one seed, or differences without spread), "not tested".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dao.learner.experiment.findings.contrasts import CHECK, About, Contrast, combine, only_tested
from dao.learner.experiment.findings.runs import Run
from dao.learner.experiment.findings.statistics import (
    ALPHA,
    bootstrap_difference,
    holm,
    mcnemar,
    paired,
)

__all__ = [
    "METHOD",
    "METHOD_CHECK",
    "METHOD_PLAN",
    "METHOD_ROWS",
    "NOT_TESTED",
    "NO_DIFFERENCE",
    "over_rows",
    "over_seeds",
    "verdict",
]

NO_DIFFERENCE = "no significant difference"
NOT_TESTED = "not tested"
METHOD_ROWS = (
    "Tests over test rows (McNemar, paired bootstrap; a row counts once, with all its seeds) ask "
    "whether these trained models differ on further rows of this kind. They know nothing of how "
    "other seeds would come out, so they carry no claim about a method."
)
METHOD_SEEDS = (
    "The exact sign-flip permutation p stands beside it: with n seeds it cannot go below 2 / 2^n "
    "(.25 for three, .0625 for five), whatever the effect. BCa intervals are too short for so few.",
    METHOD_ROWS,
    "The smallest detectable difference is that of one t test at 5 % with 80 % power, before "
    "Holm's adjustment.",
)
METHOD_CHECK = (
    "sham - base is none of the tests: it is 0 by construction, and shown to see that it is."
)

Figures = Mapping[int, Mapping[str, float | None]]
"""Seed -> metric -> figure of the test split."""


METHOD = [
    "Verdicts over seeds rest on the paired t test, adjusted by Holm's rule over all primary "
    "tests, which are of the selection score, and apart from them over all secondary ones, which "
    "are of the figures of each task.",
    *METHOD_SEEDS,
]
"""How verdicts over seeds came about, in sentences."""
METHOD_PLAN = [
    "Verdicts rest on the paired t test over seeds, adjusted by Holm's rule over all pairs and "
    "primary figures together (the selection score, and \N{GREEK CAPITAL LETTER DELTA}m where "
    "there is one), and apart from them over all pairs and figures of single tasks.",
]
"""The same of an experiment whose pairs a plan names."""


def verdict(estimate: float | None, p_adjusted: float | None, better: str) -> str:
    """The finding in words.

    Args:
        estimate: the difference.
        p_adjusted: over the family.
        better: `higher` or `lower`, the direction in which the figure improves.

    Example:
        >>> verdict(-0.01, 0.003, "lower"), verdict(-0.01, 0.05, "lower")
        ('lower (better)', 'no significant difference')
        >>> verdict(-0.01, None, "lower")
        'not tested'
    """
    if estimate is None or p_adjusted is None:
        return NOT_TESTED
    if not p_adjusted < ALPHA or estimate == 0:
        return NO_DIFFERENCE
    direction = "higher" if estimate > 0 else "lower"
    return f"{direction} ({'better' if direction == better else 'worse'})"


def over_seeds(
    contrasts: Iterable[Contrast], arms: Mapping[str, Figures], metrics: Mapping[str, About]
) -> list[dict[str, Any]]:
    """Every contrast in every tested figure that all its arms have, paired by seed.

    Args:
        contrasts: those that lack an arm are passed over.
        arms: arm -> figures per seed. A contrast uses the seeds at which all its arms name the
            figure; one that is named and None there leaves the contrast untested.
        metrics: the figures, as `contrasts.measured` has them.

    Returns:
        For each: metric, family, name, formula, seeds, what `Paired` has, p_holm, significant,
        verdict; JSON-able.
    """
    tests = []
    for contrast in contrasts:
        involved = {arm: arms.get(arm, {}) for arm in contrast.weights}
        seeds = sorted(set.intersection(*(set(figures) for figures in involved.values())))
        for metric, about in only_tested(metrics).items():
            at = [s for s in seeds if all(metric in f[s] for f in involved.values())]
            by_arm = {a: [f[s][metric] for s in at] for a, f in involved.items()}
            if not at or not _defined(contrast, about, by_arm):
                continue
            arrays = {arm: np.array(found, dtype=float) for arm, found in by_arm.items()}
            family = CHECK if contrast.check else about["family"]
            named = {"metric": metric, "family": family, "name": contrast.name}
            found = asdict(paired(_differences(contrast, arrays)))
            tests.append({**named, "formula": contrast.formula, "seeds": at, **found})
    better = {metric: about["better"] for metric, about in metrics.items()}
    return _judged(tests, "p_t", "mean", lambda test: str(test["family"]), better)


def over_rows(pairs: Iterable[tuple[Sequence[Run], Sequence[Run]]]) -> list[dict[str, Any]]:
    """The figure of each task that is a mean over rows, compared on the rows of the test split.

    Rows that are right or wrong are compared by McNemar's test, others by the paired bootstrap.

    Args:
        pairs: the runs of a and of b, of the same seeds in the same order, or one run each; their
            test rows are the same.

    Returns:
        For each pair and task that both have, with rows scored by one figure: metric, a, b, test,
        seeds, n (test rows), estimate (a - b), interval95, p, p_holm, significant, verdict;
        JSON-able. The interval is that of the bootstrap in all cases.
    """
    tests, better = [], {}
    for a, b in pairs:
        shared = [
            name
            for name, task in a[0].tasks.items()
            if name in b[0].tasks and b[0].tasks[name].row_figure == task.row_figure
        ]
        named = {"a": a[0].arm, "b": b[0].arm, "seeds": sorted({run.seed for run in (*a, *b)})}
        for task in shared:
            left, right = _scores(a, task), _scores(b, task)
            found = bootstrap_difference(left, right)
            result = {"n": found.n, "estimate": found.mean, "interval95": _listed(found.interval95)}
            key = a[0].tasks[task].row_figure
            head = {"metric": f"{task}.{key}", **named}
            better[f"{task}.{key}"] = direction = a[0].tasks[task].row_better
            if direction == "higher":  # rows that are right or wrong
                counted = mcnemar(left, right)
                discordant = {"only_a": counted.only_a, "only_b": counted.only_b}
                head["test"] = "McNemar"
                tests.append({**head, **result, **discordant, "p": counted.p})
            else:
                head["test"] = "paired bootstrap"
                tests.append({**head, **result, "p": found.p})
    return _judged(tests, "p", "estimate", lambda _: "all", better)


def _defined(
    contrast: Contrast, about: About, figures: Mapping[str, Sequence[float | None]]
) -> bool:
    """Whether the figure is one that all arms of the contrast give."""
    of_task = contrast.task in (None, about["task"])
    return of_task and all(any(v is not None for v in found) for found in figures.values())


def _differences(
    contrast: Contrast, arrays: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """One per seed; what is left of equal figures by rounding is 0, else it would be tested."""
    values = np.asarray(combine(contrast, arrays), dtype=float)
    scale = np.max([abs(found) for found in arrays.values()], axis=0)
    return np.where(abs(values) <= 1e-12 * scale, 0.0, values)


def _scores(runs: Sequence[Run], task: str) -> NDArray[np.float64]:
    """(seeds, rows): 1 or 0 for right or wrong, or an error."""
    return np.stack([run.test_rows(task)["score"].to_numpy(dtype=float) for run in runs])


def _judged(
    tests: list[dict[str, Any]],
    p: str,
    estimate: str,
    family: Callable[[Mapping[str, Any]], str],
    better: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The tests with p_holm over their families, and what that says."""
    adjusted: dict[int, float | None] = {}
    for name in {family(test) for test in tests}:
        members = [i for i, test in enumerate(tests) if family(test) == name]
        adjusted |= zip(members, holm([tests[i][p] for i in members]), strict=True)
    judged = []
    for i, test in enumerate(tests):
        words = verdict(test[estimate], adjusted[i], better[test["metric"]])
        found = {key: _listed(value) for key, value in test.items()}
        claimed = words not in (NO_DIFFERENCE, NOT_TESTED)
        judged.append({**found, "p_holm": adjusted[i], "significant": claimed, "verdict": words})
    return judged


def _listed(value: Any) -> Any:  # noqa: ANN401
    """Tuples as lists: what JSON gives back."""
    return list(value) if isinstance(value, tuple) else value
