"""Figures as a person reads them: alike in a column, and never rounded to nothing."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TypeGuard

__all__ = ["aligned", "is_known", "number", "percent", "told_apart"]

SMALL, LARGE = -5, 9  # orders of magnitude beyond which a power of ten reads better


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether there is a figure: neither None, nor NaN, nor infinite.

    Example:
        >>> is_known(0.0), is_known(None), is_known(math.nan)
        (True, False, False)
    """
    return value is not None and math.isfinite(value)


def number(value: float, *, signed: bool = False, decimals: int = 4) -> str:
    """A figure by itself: four decimals, fewer where it is large, more where it is tiny.

    Args:
        value: Any number.
        signed: Whether a plus sign is written.
        decimals: Of a figure between 0.001 and 10.

    Example:
        >>> number(0.87244), number(-0.004, signed=True), number(0.000421), number(12345.6)
        ('0.8724', '-0.0040', '0.00042', '12,346')
        >>> number(1e-12), number(1.7e18), number(0)
        ('1.0e-12', '1.7e+18', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    order = _order([value])
    sign = "+" if signed else ""
    if order < SMALL - 2 or order >= LARGE:
        return f"{value:{sign}.1e}"
    shown = 1 - order if order <= -decimals else decimals if order < 1 else 2 if order < 3 else 0
    return f"{value:{sign},.{shown}f}"


def percent(share: float) -> str:
    """A share in percent: three digits, or as many as keep it from being rounded to all.

    Example:
        >>> percent(0.9), percent(0.3141), percent(0.99996), percent(1.0), percent(1e-7)
        ('90 %', '31.4 %', '99.996 %', '100 %', '0.00001 %')
    """
    digits = 3
    while share < 1 and digits < 17 and float(f"{100 * share:.{digits}g}") >= 100:
        digits += 1
    return f"{Decimal(f'{100 * share:.{digits}g}'):f} %"


def aligned(values: Sequence[float | None], *, signed: bool = False) -> list[str]:
    """The figures of a column, with equally many decimals: four, unless all are small or large.

    The largest figure decides: at least four digits of it are shown. A figure that would then be
    rounded to 0 is written as a power of ten. Whole numbers (of Python's type int) are counts, and
    stay as they are; None, or what is not finite, is left empty.

    Args:
        values: Of one column.
        signed: Whether plus signs are written.

    Example:
        >>> aligned([0.0580, 0.1242, None, 1050])
        ['0.0580', '0.1242', '', '1050']
        >>> aligned([1.068e-06, 1.2e-07]), aligned([0.000421, 0.00004])
        (['1.068e-06', '1.200e-07'], ['0.0004210', '0.0000400'])
        >>> aligned([0.5, 1e-09]), aligned([123456.7, 0.25], signed=True)
        (['0.5000', '1.0e-09'], ['+123,456.7', '+0.2'])
    """
    figures = [v for v in values if isinstance(v, float) and math.isfinite(v)]
    order = _order(figures)
    return [_one(value, order, "+" if signed else "") for value in values]


def told_apart(values: Sequence[float]) -> list[str]:
    """Four digits of each number, or so many that their range shows four.

    Example:
        >>> told_apart([-0.983, 0.0010563]), told_apart([1.7e9, 1700017955.0])
        (['-0.983', '0.001056'], ['1700000000', '1700017955'])
    """
    finite = [value for value in values if math.isfinite(value)]
    spread = max(finite) - min(finite) if finite else 0.0
    lost = max(0, _order(finite) - _order([spread])) if spread else 0
    lost += lost > 0  # the last digit is rounded
    return [f"{value:.{min(4 + lost, 17)}g}" for value in values]


def _one(value: float | None, order: int, sign: str) -> str:
    if not is_known(value):
        return ""
    if isinstance(value, int):
        return str(value)
    if order < SMALL or order >= LARGE:
        return f"{value:{sign}.3e}"
    decimals = 3 - order if order < -3 else 4 if order < 3 else max(0, 6 - order)
    text = f"{value:{sign},.{decimals}f}"
    lost = value != 0 and not any(digit in text for digit in "123456789")
    return f"{value:{sign}.1e}" if lost else text


def _order(values: Iterable[float]) -> int:
    """The power of ten of the largest, 0 where all are 0."""
    largest = max(map(abs, values), default=0.0)
    return math.floor(math.log10(largest)) if largest else 0
