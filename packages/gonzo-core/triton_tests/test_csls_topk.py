"""The kernels of `csls_topk` and its siblings against the reference."""

import functools
import math

import numpy as np
import pytest
import torch

from gonzo.core.ops.csls_topk import (
    cosine_topk,
    csls_topk,
    csls_topk_both,
    inverted_softmax_topk,
    neighbourhood_means,
)
from gonzo.core.testing import assert_close, poisoned_allocations

F32, F64 = torch.float32, torch.float64
SEARCHES = {
    "cosine": cosine_topk,
    "csls": functools.partial(csls_topk, neighbours=4),
    "inverted softmax": functools.partial(inverted_softmax_topk, temperature=10.0),
}


def vectors(device, words, d=7, *, dtype=F32, seed=0):
    x = np.random.default_rng(seed).normal(size=(words, d)) + 0.5
    return torch.from_numpy(x).to(device, dtype)


def dyadic(device, words, seed):
    """Vectors whose cosines are multiples of 1/16 exactly, so that many scores are equal."""
    draw = np.random.default_rng(seed)
    x = np.zeros((words, 16))
    for row in x:
        at = draw.choice(16, 4 ** int(draw.integers(3)), replace=False)
        row[at] = draw.choice([-1, 1], len(at))
    return torch.from_numpy(x).to(device, F32)


def agree(actual, search, x, y, rows=None):
    """Scores are the best there are, each that of its word, and no word comes twice."""
    k = actual.scores.shape[1]
    best = search(x.double(), y.double(), len(y), rows=rows, backend="reference")
    dense = torch.full_like(best.scores, math.nan).scatter(1, best.indices, best.scores)
    limit = (2e-6 if x.dtype == F32 else 1e-13) * max(1, float(best.scores.abs().max()))
    assert actual.scores.dtype == x.dtype
    assert (actual.scores - best.scores[:, :k]).abs().max() < limit
    assert (actual.scores - dense.gather(1, actual.indices)).abs().max() < limit
    assert (actual.scores.diff() <= 0).all()
    assert (actual.indices.sort().values.diff() > 0).all()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (5, 3, 40), (3, 70, 7), (67, 66, 33)])
@pytest.mark.parametrize("name", SEARCHES)
def test_it_agrees_with_the_reference(device, name, n, m, d, dtype):
    x, y = vectors(device, n, d, dtype=dtype), vectors(device, m, d, dtype=dtype, seed=1)
    y[m // 2] = 0
    for k in sorted({1, min(3, m), min(m, 35)}):  # the last takes two walks
        with poisoned_allocations():
            found = SEARCHES[name](x, y, k, backend="triton")
        agree(found, SEARCHES[name], x, y)


@pytest.mark.parametrize("neighbours", [1, 3, 40, 500])
def test_means_agree(device, neighbours):
    x, y = vectors(device, 9), vectors(device, 70, seed=1)
    expected = neighbourhood_means(x, y, neighbours, backend="reference")
    with poisoned_allocations():
        actual = neighbourhood_means(x, y, neighbours, backend="triton")
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


def test_ties_go_to_the_lower_index(device):
    x, y = dyadic(device, 20, 0), dyadic(device, 90, 1)
    for k in (1, 6, 90):
        for search in (cosine_topk, functools.partial(csls_topk, neighbours=4)):
            expected = search(x, y, k, backend="reference")
            found = search(x, y, k, backend="triton")
            assert torch.equal(found.indices, expected.indices)
            assert torch.equal(found.scores, expected.scores)


def test_both_directions_are_the_two_single_ones(device):
    x, y = dyadic(device, 30, 0), dyadic(device, 40, 1)
    some, others = torch.tensor([3, 29, 3], device=device), torch.arange(7, device=device)
    found = csls_topk_both(
        x, y, 2, neighbours=4, source_rows=some, target_rows=others, backend="triton"
    )
    expected = (csls_topk(x, y, 2, neighbours=4, rows=some, backend="triton"),
                csls_topk(y, x, 2, neighbours=4, rows=others, backend="triton"))  # fmt: skip
    for a, e in zip(found, expected, strict=True):
        assert torch.equal(a.scores, e.scores)
        assert torch.equal(a.indices, e.indices)


@pytest.mark.parametrize("name", SEARCHES)
def test_rows_are_those_of_all(device, name):
    x, y = dyadic(device, 20, 0), dyadic(device, 30, 1)
    rows = torch.tensor([19, 0, 4, 4], device=device)
    whole = SEARCHES[name](x, y, 3, backend="triton")
    some = SEARCHES[name](x, y, 3, rows=rows, backend="triton")
    assert torch.equal(some.indices, whole.indices[rows])
    assert torch.equal(some.scores, whole.scores[rows])
    assert SEARCHES[name](x, y, 3, rows=rows[:0], backend="triton").scores.shape == (0, 3)


def test_strides_do_not_matter(device):
    x, y = vectors(device, 7, 20).mT, vectors(device, 30, 14, seed=1)[:, ::2]
    agree(csls_topk(x, y, 2, backend="triton"), functools.partial(csls_topk), x, y)


@pytest.mark.parametrize("temperature", [0.01, 3000.0])
def test_the_inverted_softmax_is_stable(device, temperature):
    x, y = vectors(device, 9, dtype=F64), vectors(device, 12, dtype=F64, seed=1)
    search = functools.partial(inverted_softmax_topk, temperature=temperature)
    agree(search(x, y, 3, backend="triton"), search, x, y)


def test_it_repeats_bit_for_bit(device):
    x, y = vectors(device, 70), vectors(device, 90, seed=1)
    runs = [csls_topk(x, y, 3, backend="triton") for _ in range(2)]
    assert torch.equal(runs[0].scores, runs[1].scores)
    assert torch.equal(runs[0].indices, runs[1].indices)
