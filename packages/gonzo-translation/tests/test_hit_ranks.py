"""Precision and its interval against counting by hand, scipy, and Wilson's own equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.hit_ranks import check_ks, hit_ranks, wilson_interval


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_ends_solve_wilsons_equation(hits, more, confidence):
    trials = hits + more
    low, high = wilson_interval(hits, trials, confidence=confidence)
    assert 0 <= low <= hits / trials <= high <= 1
    # The ends are where the normal test of the share, with the variance of that end, just accepts.
    distances = [(hits / trials - end) ** 2 * trials for end in (low, high)]
    widths = [end * (1 - end) for end in (low, high)]
    if hits:
        assert distances[0] / widths[0] == pytest.approx(distances[1] / widths[1], rel=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (7, 7), (1, 2), (471, 1500), (1, 10_000)])
def test_intervals_are_scipys(hits, trials, confidence):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(hits, trials, confidence=confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_of_no_trials_nothing_is_known():
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "confidence", "message"),
    [
        ((3, 2), 0.95, "expected hits in 0 … 2, the trials, got 3"),
        ((-1, 2), 0.95, "expected hits in 0 … 2, the trials, got -1"),
        ((1, 2), 95, "expected a confidence above 0 and below 1, got 95"),
    ],
)
def test_intervals_refuse(arguments, confidence, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments, confidence=confidence)


@settings(deadline=None)
@given(st.data())
def test_ranks_are_the_first_right_answer(data):
    k = data.draw(st.integers(1, 5))
    answers = st.lists(st.integers(0, 8), min_size=k, max_size=k, unique=True)
    found = data.draw(st.lists(answers, min_size=1, max_size=6))
    pairs = st.tuples(st.integers(0, len(found) - 1), st.integers(0, 11))
    gold = data.draw(st.lists(pairs, min_size=1, max_size=20))
    expected = [
        next((place for place, answer in enumerate(row) if (query, answer) in gold), k)
        for query, row in enumerate(found)
    ]
    queries = torch.arange(len(found))
    assert hit_ranks(queries, torch.tensor(found), torch.tensor(gold)).tolist() == expected


def test_ks_are_sorted_and_checked():
    assert check_ks(k for k in (10, 1, 5, 1)) == (1, 5, 10)
    for wrong in ((), (0, 1)):
        with pytest.raises(
            ValueError, match=r"expected ks of at least 1, such as \(1, 5, 10\), got"
        ):
            check_ks(wrong)


def test_the_interval_shrinks_with_the_root_of_the_trials():
    few, many = wilson_interval(30, 100), wilson_interval(30_000, 100_000)
    ratio = (few.high - few.low) / (many.high - many.low)
    assert ratio == pytest.approx(math.sqrt(1000), rel=0.03)
