"""k-occurrences by counting, and that CSLS has fewer hubs where there are hubs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.translation.hubness import Hubness, k_occurrence, measure_hubness


@settings(deadline=None)
@given(st.integers(1, 9), st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=2), max_size=9))
def test_occurrences_are_counted(more, rows):
    targets = 8 + more
    counts = k_occurrence(torch.tensor(rows, dtype=torch.int64).reshape(-1, 2), targets)
    flat = [row for pair in rows for row in pair]
    assert counts.tolist() == [flat.count(target) for target in range(targets)]
    assert counts.sum() == 2 * len(rows)


def test_skewness_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    counts = torch.tensor([0, 0, 0, 1, 1, 2, 40])
    hubs = Hubness(counts)
    assert hubs.skewness == pytest.approx(float(stats.skew(counts.numpy())), rel=1e-12)
    assert hubs.anti_hubs == pytest.approx(3 / 7)
    assert hubs.top(3) == [(6, 40), (5, 2), (3, 1)]
    assert Hubness(torch.tensor([3, 3, 3])).skewness == 0


def test_a_symmetric_count_has_no_skewness():
    assert Hubness(torch.tensor([1, 2, 2, 3, 3, 3, 4, 4, 5])).skewness == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("method", ["nn", "csls", "isf"])
def test_every_word_is_retrieved_once_where_the_clouds_are_one(method):
    vectors = torch.linalg.qr(torch.randn(12, 12)).Q
    hubs = measure_hubness(vectors, vectors, k=1, method=method)
    assert hubs.counts.tolist() == [1] * 12
    assert (hubs.skewness, hubs.anti_hubs) == (0, 0)


def test_csls_and_the_inverted_softmax_have_fewer_hubs():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 600, 100, generator=generator) + 2
    nearest, csls, isf = (
        measure_hubness(source, target, method=method) for method in ("nn", "csls", "isf")
    )
    assert int(nearest.counts.sum()) == 600 * 10
    assert nearest.skewness > 1.5 * max(csls.skewness, isf.skewness)
    assert nearest.anti_hubs > max(csls.anti_hubs, isf.anti_hubs)
    assert nearest.top(1)[0][1] > csls.top(1)[0][1]


def test_only_the_rows_that_ask_are_counted():
    source, target = torch.randn(2, 20, 4)
    every = measure_hubness(source, target, k=3)
    half, rest = (
        measure_hubness(source, target, k=3, rows=rows)
        for rows in (torch.arange(10), torch.arange(10, 20))
    )
    assert torch.equal(half.counts + rest.counts, every.counts)


def test_wrong_indices():
    with pytest.raises(ValueError, match=r"expected rows in 0 … 3, got 0 … 4"):
        k_occurrence(torch.tensor([[0, 4]]), 4)
    with pytest.raises(ValueError, match=r"expected rows in 0 … 3, got -1 … 0"):
        k_occurrence(torch.tensor([[0, -1]]), 4)
    with pytest.raises(ValueError, match=r"expected indices as int64 of shape \(q, k\), got"):
        k_occurrence(torch.tensor([0, 1]), 4)
