"""Rates are the decimals that were written, and counts are exact."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.pruning.rates import count_to_prune, exact_rate

# Of LeNet-300-100's 266,200 weights, per cent that remain after rounds 1 to 18.
REMAINING = [
    *(80.04, 64.06, 51.28, 41.05, 32.87, 26.32, 21.07, 16.88, 13.52),
    *(10.83, 8.68, 6.95, 5.58, 4.47, 3.59, 2.88, 2.31, 1.85),
]


@pytest.mark.parametrize(
    "rate",
    [
        *(0.29, "0.29", " .29 ", "29 %", "29%", "29/100", "2.9e-1"),
        *(Fraction(29, 100), Decimal("0.29"), Decimal(29) / 100),
        *(np.float64(0.29), np.float32(0.29), np.float16(0.29)),
    ],
)
def test_a_rate_is_the_fraction_that_its_digits_say(rate):
    assert exact_rate(rate) == Fraction(29, 100)


@pytest.mark.parametrize("rate", [0, 0.0, -0.0, "0", "0 %", Fraction(0), np.int64(0)])
def test_nothing_is_a_rate(rate):
    assert exact_rate(rate) == 0
    assert count_to_prune(rate, 7) == 0


@pytest.mark.parametrize("rate", [1, 1.0, "1", "100 %", Decimal(1), np.int64(1)])
def test_everything_is_a_rate(rate):
    assert exact_rate(rate) == 1
    assert count_to_prune(rate, 7) == 7


def test_floats_would_count_one_less():
    assert math.floor(0.29 * 100) == 28
    assert count_to_prune(0.29, 100) == 29
    assert count_to_prune("1/3", 299) == 99


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10**9))
def test_counts_are_those_of_integer_arithmetic(parts, alive):
    expected = parts * alive // 10_000
    assert count_to_prune(parts / 10_000, alive) == expected
    assert count_to_prune(f"{parts / 100} %", alive) == expected
    assert count_to_prune(Fraction(parts, 10_000), alive) == expected


def test_the_paper_schedule_of_lenet():
    alive = {"1": 784 * 300, "2": 300 * 100, "out": 100 * 10}
    total = sum(alive.values())
    remaining = []
    for _ in range(18):
        for name in alive:
            alive[name] -= count_to_prune(0.1 if name == "out" else 0.2, alive[name])
        remaining.append(round(100 * sum(alive.values()) / total, 2))
    assert remaining == REMAINING
    assert [round(remaining[k - 1], 1) for k in (3, 7, 12, 15)] == [51.3, 21.1, 7.0, 3.6]


@pytest.mark.parametrize("rate", [-0.1, 1.5, "-1/2", "101 %", Fraction(3, 2), Decimal("1.01"), 300])
def test_outside_zero_to_one(rate):
    with pytest.raises(ValueError, match="expected a rate from 0 to 1, the part of the alive"):
        exact_rate(rate)


def test_twenty_is_taken_for_per_cent():
    with pytest.raises(ValueError, match="got 20; did you mean '20 %'"):
        exact_rate(20)


@pytest.mark.parametrize(
    "rate", [math.nan, math.inf, -math.inf, np.float32("nan"), Decimal("NaN"), Decimal("Infinity")]
)
def test_not_finite(rate):
    with pytest.raises(ValueError, match="expected a rate from 0 to 1, got"):
        exact_rate(rate)


@pytest.mark.parametrize("rate", [True, False, np.True_])
def test_bools(rate):
    with pytest.raises(ValueError, match=r"got the bool .*; write 0 or 1"):
        exact_rate(rate)


@pytest.mark.parametrize("rate", ["", "half", "20 % %", "1/0", "% 20", "20 % of it"])
def test_strings_that_are_no_rate(rate):
    with pytest.raises(ValueError, match=r"expected a rate such as '0.29', '29 %' or '29/100'"):
        exact_rate(rate)


@pytest.mark.parametrize("rate", [None, [0.2], 0.2 + 0j, torch.tensor(0.2)])
def test_other_types(rate):
    with pytest.raises(TypeError, match="expected a rate as a number or a string"):
        exact_rate(rate)


def test_a_negative_count():
    with pytest.raises(ValueError, match="count of alive weights, 0 or more, got -1"):
        count_to_prune(0.2, -1)
