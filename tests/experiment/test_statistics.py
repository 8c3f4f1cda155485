"""Against published examples, values worked out by hand, and simulated experiments."""

import math
from itertools import product

import numpy as np
import pytest

from dao.learner.experiment.findings.contrasts import EFFECTS, combine
from dao.learner.experiment.findings.statistics import (
    bootstrap_difference,
    detectable,
    holm,
    mcnemar,
    paired,
    t_interval,
    t_test,
)

# Hours of sleep gained, Student (1908), Biometrika 6; the second drug minus the first.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
CROSSED = ("base", "dao", "dendrites", "dao+dendrites")
MAIN = EFFECTS[:3]  # DAO, dendrites, interaction


# -- pairs of runs -----------------------------------------------------------------------------


def test_students_sleep_data():
    found = paired(SLEEP)
    assert found.n == 10
    assert found.mean == pytest.approx(1.58)
    assert found.mean / found.sd * math.sqrt(10) == pytest.approx(4.0621, abs=5e-5)
    assert found.p_t == pytest.approx(0.002833, abs=5e-7)
    assert found.t95 == pytest.approx((0.7001, 2.4599), abs=5e-5)
    # No negative difference and one of 0: 2 of 1024 patterns reach the sum, 2 its opposite.
    assert found.p_permutation == 4 / 1024
    low, high = found.bca95
    assert 0.7001 < low < 1.58 < high  # skewed to the right, so not as far to the left as t


@pytest.mark.parametrize("seed", range(4))
def test_the_permutation_p_is_that_of_all_sign_patterns(seed: int):
    values = np.random.default_rng(seed).normal(0.4, 1, 7).round(1)
    sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=7)]
    expected = np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
    assert paired(values).p_permutation == pytest.approx(expected)


def test_five_seeds_cannot_go_below_a_sixteenth():
    found = paired([0.1, 0.11, 0.12, 0.1, 0.11])
    assert found.p_permutation == 0.0625
    assert found.p_t < 1e-4


def test_more_pairs_than_can_be_enumerated_are_sampled_alike_each_time():
    values = np.random.default_rng(1).normal(0.5, 1, 20)
    found = paired(values)
    assert found == paired(values)
    assert found.p_permutation == pytest.approx(found.p_t, abs=0.02)


def test_what_cannot_be_said_is_null():
    nothing = paired([])
    assert (nothing.n, nothing.mean, nothing.t95, nothing.p_permutation) == (0, None, None, None)
    one = paired([0.3])
    assert (one.n, one.mean, one.sd, one.t95, one.p_t, one.detectable) == (
        1, 0.3, None, None, None, None,
    )  # fmt: skip
    for value in (math.nan, math.inf):
        diverged = paired([0.1, value, 0.2])
        assert (diverged.n, diverged.mean, diverged.p_t, diverged.bca95) == (3, None, None, None)
    assert t_interval([1.0]) is None
    assert t_interval([1.0, math.nan]) is None


def test_arms_that_compute_the_same_do_not_differ():
    same = paired([0.0] * 5)
    assert (same.mean, same.t95, same.bca95, same.p_t, same.p_permutation) == (
        0, (0, 0), (0, 0), 1, 1,
    )  # fmt: skip


def test_equal_differences_are_no_evidence_of_certainty():
    alike = paired([0.1 + 0.2 - 0.3 + 0.25, 0.25, 0.25])  # the first is off by rounding
    assert alike.mean == pytest.approx(0.25)
    assert (alike.t95, alike.p_t, alike.detectable) == (None, None, None)
    assert alike.p_permutation == 0.25


def test_the_detectable_effect_is_that_of_power_tables():
    # Cohen (1988), G*Power: d = .5 takes 34 pairs for 80 % power at two-sided 5 %.
    assert detectable(34, 1.0) < 0.5 < detectable(33, 1.0)
    assert detectable(20, 3.0) == pytest.approx(3 * 0.6604, abs=2e-4)
    # With very many pairs (z(.975) + z(.8)) / sqrt(n).
    assert detectable(10_000, 1.0) == pytest.approx((1.95996 + 0.84162) / 100, rel=1e-3)


def test_the_detectable_effect_is_found_four_times_in_five():
    draws = np.random.default_rng(0).normal(detectable(5, 1.0), 1, (20_000, 5))
    assert np.mean(t_test(draws) < 0.05) == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "low", "high"), [(5, 0.75, 0.90), (20, 0.90, 0.97)])
def test_bca_covers_the_truth_as_often_as_documented(n: int, low: float, high: float):
    draws = np.random.default_rng(2).normal(1, 1, (300, n))
    intervals = [paired(draw).bca95 for draw in draws] if n < 10 else [_bca(d) for d in draws]
    assert low < np.mean([a <= 1 <= b for a, b in intervals]) < high


def _bca(values):
    from dao.learner.experiment.findings import statistics

    return statistics._bca(values)  # without the sampled permutation test, which takes longer


def test_t_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(3).normal(1, 1, (2000, 5))
    covered = [low <= 1 <= high for low, high in map(t_interval, draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


# -- simulated experiments ---------------------------------------------------------------------


def simulated(seed: int = 0, **planted: float) -> dict[str, np.ndarray]:
    """2,000 experiments, arm -> (2000, 5 seeds): a seed's own luck shared by arms, and noise."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(0, 0.02, (2000, 5))
    return {
        arm: 0.8 + luck + planted.get(arm.replace("+", "_"), 0.0) + rng.normal(0, 0.01, (2000, 5))
        for arm in CROSSED
    }


def rejected(arms: dict[str, np.ndarray]) -> dict[str, float]:
    return {e.name: float(np.mean(t_test(combine(e, arms)) < 0.05)) for e in MAIN}


def test_no_effect_is_claimed_in_one_of_twenty_null_experiments():
    for share in rejected(simulated()).values():
        assert share == pytest.approx(0.05, abs=0.015)


def test_holm_keeps_one_of_twenty_for_the_whole_family():
    arms = simulated(seed=1)
    columns = [t_test(combine(effect, arms)) for effect in MAIN]
    families = [min(holm(row)) for row in np.stack(columns, axis=1).tolist()]
    assert np.mean(np.array(families) < 0.05) < 0.065
    assert np.mean(np.min(columns, axis=0) < 0.05) > 0.1  # what would happen without


def test_only_what_was_planted_is_found():
    found = rejected(simulated(dao=0.03, dao_dendrites=0.03))
    assert found["DAO"] > 0.95
    assert found["dendrites"] == pytest.approx(0.05, abs=0.015)
    assert found["interaction"] == pytest.approx(0.05, abs=0.015)
    together = rejected(simulated(dao_dendrites=0.06))
    assert together["interaction"] > 0.8


def test_pairing_removes_what_seeds_have_in_common():
    arms = simulated(dao=0.02, dao_dendrites=0.02)
    shuffled = {arm: np.roll(found, i, axis=1) for i, (arm, found) in enumerate(arms.items())}
    assert rejected(arms)["DAO"] > rejected(shuffled)["DAO"] + 0.2


def test_one_row_of_the_simulation_is_what_a_report_would_say():
    differences = combine(MAIN[0], simulated(dao=0.02))
    assert paired(differences[7]).p_t == pytest.approx(t_test(differences)[7])


# -- many tests --------------------------------------------------------------------------------


def test_holms_rule_by_hand():
    # .005 x 4; .01 x 3; .03 x 2; .04 x 1 is below the one before and takes its value.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_test_that_could_not_be_made_is_none_of_the_family():
    assert holm([None, 0.02, None, 0.03]) == [None, 0.04, None, 0.04]


# -- test rows ---------------------------------------------------------------------------------


def test_mcnemar_by_hand():
    a, b = [1, 1, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 1, 1, 0]
    # 5 against 1: 2 (1 + 6) / 2^6.
    assert mcnemar(a, b) == (8, 5, 1, pytest.approx(14 / 64))
    assert mcnemar(b, a) == (8, 1, 5, pytest.approx(14 / 64))


def test_mcnemar_of_a_published_table():
    # Agresti, Categorical Data Analysis, approval ratings: 150 and 86 changed their minds.
    a, b = np.repeat([1, 0], [150, 86]), np.repeat([0, 1], [150, 86])
    tail = sum(math.comb(236, k) for k in range(87)) / 2**236
    assert mcnemar(a, b).p == pytest.approx(2 * tail)
    assert mcnemar(a, b).p == pytest.approx(3.7e-5, rel=0.02)


def test_mcnemar_without_discordant_rows_or_any_rows():
    assert mcnemar([1, 0], [1, 0]) == (2, 0, 0, 1.0)
    assert mcnemar([], []).p is None


def test_mcnemar_over_seeds_by_hand():
    # Sums per row over two seeds: +2, +1, -1; of the 8 sign patterns 6 reach a total of 2.
    a, b = [[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]
    assert mcnemar(a, b) == (3, 3, 1, pytest.approx(6 / 8))


def test_a_row_that_all_seeds_get_wrong_counts_once():
    rng = np.random.default_rng(4)
    rates, naive = [], []
    for _ in range(400):
        a, b = (np.repeat(rng.random((1, 100)) < 0.7, 5, axis=0) for _ in range(2))
        rates.append(mcnemar(a, b).p < 0.05)
        naive.append(mcnemar(a.reshape(-1), b.reshape(-1)).p < 0.05)
    assert np.mean(rates) < 0.075
    assert np.mean(naive) > 0.2


def test_the_bootstrap_of_large_samples_is_the_normal_interval():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.1, 1, 1000), rng.normal(0, 1, 1000)
    found = bootstrap_difference(a, b)
    error = (a - b).std() / math.sqrt(1000)
    assert found.n == 1000
    assert found.mean == pytest.approx((a - b).mean())
    assert found.interval95[0] == pytest.approx(found.mean - 1.96 * error, abs=0.1 * error)
    assert found.interval95[1] == pytest.approx(found.mean + 1.96 * error, abs=0.1 * error)
    assert found.p == pytest.approx(math.erfc(abs(found.mean) / error / math.sqrt(2)), abs=0.01)


def test_the_bootstrap_draws_rows_with_all_their_seeds():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.1, 1, (2, 300))
    once = bootstrap_difference(a, b)
    seeds = bootstrap_difference(np.tile(a, (5, 1)), np.tile(b, (5, 1)))
    assert seeds.n == once.n
    assert seeds.interval95 == pytest.approx(once.interval95)


def test_the_bootstrap_of_nothing_to_resample():
    assert bootstrap_difference([], []) == (0, None, None, None)
    assert bootstrap_difference([1.0], [0.5]) == (1, 0.5, None, None)
    assert bootstrap_difference([1.0, 2.0], [0.5, 1.5]) == (2, 0.5, None, None)
    assert bootstrap_difference([1.0, 2.0], [1.0, 2.0]) == (2, 0.0, (0.0, 0.0), 1.0)
    assert bootstrap_difference([1.0, math.nan], [1.0, 2.0]) == (2, None, None, None)
