import math

import pytest

from dao.learner.basics.numbers import aligned, number, told_apart


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.8724, -0.0004, 1.0], ["0.8724", "-0.0004", "1.0000"]),
        ([1.068e-12, 4.084e-13, 0.0], ["1.068e-12", "4.084e-13", "0.000e+00"]),
        ([0.00042, 0.00043], ["0.0004200", "0.0004300"]),
        ([0.1242, 0.00003], ["0.1242", "3.0e-05"]),
        ([1234.5, 0.5], ["1,234.500", "0.500"]),
        ([2.5e18, 1.0e17], ["2.500e+18", "1.000e+17"]),
        ([None, 7, math.nan, 0.25], ["", "7", "", "0.2500"]),
        ([], []),
        ([0.0, 0.0], ["0.0000", "0.0000"]),
    ],
)
def test_a_column_has_one_number_of_decimals_and_rounds_nothing_to_zero(values, expected):
    assert aligned(values) == expected


@pytest.mark.parametrize("power", range(-15, 16))
def test_no_figure_is_shown_as_zero_and_two_digits_are_right(power):
    value = 1.34 * 10.0**power
    for shown in (number(value), *aligned([value])):
        assert float(shown.replace(",", "")) == pytest.approx(value, rel=0.05)
    for other in (1.0, 1e6, 1e12):
        assert float(aligned([value, other])[0].replace(",", "")) != 0


def test_three_decimals_give_way_to_digits_as_four_do():
    assert number(1.2694, decimals=3) == "1.269"
    assert number(0.0012, decimals=3) == "0.0012"
    assert number(0.00004, decimals=3) == "0.000040"


@pytest.mark.parametrize(("value", "expected"), [(math.nan, "nan"), (-math.inf, "-inf")])
def test_what_is_not_finite_is_named(value, expected):
    assert number(value) == expected


def test_numbers_far_from_zero_are_told_apart():
    assert told_apart([1.7e9, 1.7e9 + 100, 1.7e9 + 200]) == [
        "1700000000", "1700000100", "1700000200",
    ]  # fmt: skip
    assert told_apart([0.5, 0.5]) == ["0.5", "0.5"]
    assert told_apart([]) == []
