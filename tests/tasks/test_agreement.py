"""Agreement of raters, against figures worked out by hand."""

import math

import pytest

from tasks.agreement import one_against_rest, spearman_brown, split_halves

RATINGS = [[0, 0], [1, 3], [3, 3]]


def test_one_rater_against_the_other():
    # Pairs (0, 0) twice, (1, 3), (3, 1), (3, 3) twice; mean 5/3, covariance 22/3, variance 34/3.
    assert one_against_rest(RATINGS) == pytest.approx(11 / 17)


def test_a_text_counts_once_however_many_rated_it():
    # [0, 2] has the pairs (0, 2), (2, 0) of weight 1/2, [3, 3, 3] has (3, 3) of weight 1/3 thrice.
    # Weighted mean 2, covariance 0 + 1, variance 2 + 1.
    assert one_against_rest([[0, 2], [3, 3, 3]]) == pytest.approx(1 / 3)
    assert one_against_rest([[0, 2], [3] * 50]) == pytest.approx(1 / 3)


def test_the_rater_is_not_among_the_others():
    # Each against the mean of two: (3, 0), (0, 1.5) twice in one text, (3, 3) thrice in the other.
    pairs = [(3, 0), (0, 1.5), (0, 1.5), (3, 3), (3, 3), (3, 3)]
    x, y = ([pair[side] for pair in pairs] for side in (0, 1))
    mx, my = sum(x) / 6, sum(y) / 6
    expected = sum((a - mx) * (b - my) for a, b in pairs) / math.sqrt(
        sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)
    )
    assert one_against_rest([[3, 0, 0], [3, 3, 3]]) == pytest.approx(expected)


def test_halves_of_two_ratings():
    # (0, 1, 3) against (0, 3, 3), or the other way round: 4 / sqrt(14/3 * 6).
    assert split_halves(RATINGS, seeds=range(20)) == pytest.approx(2 / math.sqrt(7))


def test_halves_of_an_odd_number_of_ratings():
    # Of [0, 3, 3] one rating and the mean of two: (0, 3) or (3, 1.5), beside (0, 0) and (6, 6).
    def pearson(one, other):
        x, y = [0, 6, one], [0, 6, other]
        mx, my = sum(x) / 3, sum(y) / 3
        top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
        return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))

    either = [pearson(0, 3), pearson(3, 1.5)]
    found = [split_halves([[0] * 3, [6] * 3, [0, 3, 3]], seeds=[seed]) for seed in range(20)]
    rounded = {round(value, 9) for value in found}
    assert rounded == {round(value, 9) for value in either}
    mean = split_halves([[0] * 3, [6] * 3, [0, 3, 3]], seeds=range(20))
    assert mean == pytest.approx(sum(found) / 20)


def test_spearman_brown():
    assert spearman_brown(0.6) == pytest.approx(0.75)
    assert spearman_brown(1.0) == 1.0


def test_raters_who_never_differ_have_no_correlation():
    assert math.isnan(one_against_rest([[1, 1], [1, 1]]))


def test_a_single_rating_is_refused():
    with pytest.raises(ValueError, match="two ratings"):
        one_against_rest([[1, 2], [3]])
