"""Pruning rates as exact fractions: floor(rate · alive) means the decimal that was written."""

from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational

import numpy as np

__all__ = ["Rate", "count_to_prune", "exact_rate"]

Rate = float | str | Fraction | Decimal
"""The part of the alive weights that goes: 0.29, "0.29", "29 %", "29/100", Fraction(29, 100)."""


def exact_rate(rate: Rate) -> Fraction:
    """Return ``rate`` as the fraction that its decimal digits say: 0.29 is 29/100.

    A float stands for its shortest decimal (what ``print`` shows), at its own precision, so that
    ``numpy.float32(0.29)`` is 29/100 too. A string may be a decimal, a fraction or per cent.

    Args:
        rate: Between 0 and 1, both legal.

    Raises:
        TypeError: ``rate`` is no number and no string.
        ValueError: It is outside [0, 1], NaN, a bool, or a string that is no number.
    """
    fraction = _fraction(rate)
    if not 0 <= fraction <= 1:
        raise ValueError(
            f"expected a rate from 0 to 1, the part of the alive weights to prune, got {rate!r}"
            + (f"; did you mean '{rate} %'?" if 1 < fraction <= 100 else "")
        )
    return fraction


def count_to_prune(rate: Rate, alive: int) -> int:
    """Return floor(rate · alive) in exact arithmetic: 29 for 0.29 of 100, where floats give 28.

    Args:
        rate: See `exact_rate`.
        alive: How many weights there are to choose from.

    Raises:
        ValueError: ``alive`` is negative, or the rate is not one.
    """
    if alive < 0:
        raise ValueError(f"expected a count of alive weights, 0 or more, got {alive}")
    fraction = exact_rate(rate)
    return fraction.numerator * alive // fraction.denominator


def _fraction(rate: object) -> Fraction:
    if isinstance(rate, bool | np.bool):
        raise ValueError(f"expected a rate from 0 to 1, got the bool {rate}; write 0 or 1")
    if isinstance(rate, str):
        return _parsed(rate)
    if isinstance(rate, Integral):  # numpy's among them
        return Fraction(int(rate))
    if isinstance(rate, Rational):
        return Fraction(rate)
    if isinstance(rate, float | np.floating | Decimal):
        try:
            # str, not the value: the float 0.29 is a little less than 29/100.
            return Fraction(str(rate))
        except ValueError:
            raise ValueError(f"expected a rate from 0 to 1, got {rate}") from None
    raise TypeError(
        f"expected a rate as a number or a string such as '0.29', '29 %' or '29/100', "
        f"got {type(rate).__name__}: {rate!r}"
    )


def _parsed(text: str) -> Fraction:
    number, percent, rest = text.partition("%")
    try:
        if rest.strip():
            raise ValueError
        return Fraction(number.strip()) / (100 if percent else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"expected a rate such as '0.29', '29 %' or '29/100', got the string {text!r}"
        ) from None
