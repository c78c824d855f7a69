"""Fronts and crowding distances against their definitions, on every kind of tie."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gonzo.neuroevo.ranking import crowding_distance, non_dominated_rank, select_best


def fronts_by_definition(objectives: np.ndarray) -> np.ndarray:
    """Peel the rows that nothing left dominates; O(n² · fronts)."""
    no_worse = (objectives[:, None] <= objectives[None]).all(2)
    dominates = no_worse & ~no_worse.T
    ranks = np.full(len(objectives), -1)
    left = np.ones(len(objectives), bool)
    for rank in range(len(objectives)):
        front = left & ~dominates[left].any(0)
        ranks[front] = rank
        left &= ~front
    return ranks


def crowding_by_definition(objectives: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    distance = np.zeros(len(objectives))
    for rank in np.unique(ranks):
        first: dict[tuple[float, ...], int] = {}
        for row in np.flatnonzero(ranks == rank):
            first.setdefault(tuple(objectives[row]), int(row))
        rows = sorted(first.items())
        distance[[rows[0][1], rows[-1][1]]] = math.inf
        for (before, _), (_, row), (after, _) in zip(rows, rows[1:], rows[2:], strict=False):
            for axis in (0, 1):
                width = abs(rows[-1][0][axis] - rows[0][0][axis])
                distance[row] += abs(after[axis] - before[axis]) / width
    return distance


tables = st.integers(0, 60).flatmap(
    lambda n: st.one_of(
        hnp.arrays(np.int64, (n, 2), elements=st.integers(0, 6)),
        hnp.arrays(np.float64, (n, 2), elements=st.floats(-1e6, 1e6, width=32)),
        hnp.arrays(np.float64, (n, 2), elements=st.sampled_from([-math.inf, -0.0, 0.0, math.inf])),
    )
)


@settings(deadline=None)  # the first example compiles
@given(tables)
def test_ranks_are_the_peeled_fronts(objectives):
    ranks = non_dominated_rank(torch.from_numpy(objectives))
    assert ranks.dtype == torch.int64
    np.testing.assert_array_equal(ranks.numpy(), fronts_by_definition(objectives))


@pytest.mark.parametrize("kind", ["real", "ages", "two values", "chain", "one front"])
@pytest.mark.parametrize("n", [200, 700])
def test_ranks_of_larger_tables(kind, n):
    random = np.random.default_rng(n)
    line = random.permutation(n).astype(float)
    objectives = {
        "real": random.normal(size=(n, 2)),
        "ages": np.stack([random.integers(0, 12, n), random.integers(-300, 0, n)], 1),
        "two values": random.integers(0, 2, (n, 2)),
        "chain": np.stack([line, line], 1),
        "one front": np.stack([line, -line], 1),
    }[kind]
    ranks = non_dominated_rank(torch.from_numpy(objectives)).numpy()
    np.testing.assert_array_equal(ranks, fronts_by_definition(objectives))


@settings(deadline=None)  # the first example compiles
@given(tables.filter(lambda table: np.isfinite(table).all()))
def test_crowding_is_the_definition(objectives):
    ranks = fronts_by_definition(objectives)
    distance = crowding_distance(torch.from_numpy(objectives), torch.from_numpy(ranks)).numpy()
    expected = crowding_by_definition(objectives.astype(float), ranks)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


def test_crowding_by_hand():
    objectives = torch.tensor([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0], [1.0, 3.0], [3.0, 1.0]])
    distance = crowding_distance(objectives, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(
        distance, torch.tensor([math.inf, 1.5, math.inf, 0.0, 1.5], dtype=torch.float64)
    )


def test_an_infinite_range_adds_nothing():
    objectives = torch.tensor([[0.0, math.inf], [1.0, 2.0], [2.0, 1.0], [4.0, 0.0]])
    distance = crowding_distance(objectives, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(
        distance, torch.tensor([math.inf, 0.5, 0.75, math.inf], dtype=torch.float64)
    )


def test_selection_takes_fronts_whole_and_cuts_the_last_by_distance():
    first = [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
    second = [[3.0, 13.0], [4.0, 12.0], [5.0, 11.0], [13.0, 3.0]]
    objectives = torch.tensor(second + first)
    assert select_best(objectives, 6).tolist() == [4, 6, 5, 0, 3, 2]
    assert select_best(objectives, 0).tolist() == []
    assert sorted(select_best(objectives, 7).tolist()) == list(range(7))


@settings(deadline=None)  # the first example compiles
@given(tables, st.data())
def test_selection_never_prefers_a_later_front(objectives, data):
    k = data.draw(st.integers(0, len(objectives)))
    best = select_best(torch.from_numpy(objectives), k).numpy()
    ranks = fronts_by_definition(objectives)
    assert len(set(best.tolist())) == k
    assert (np.diff(ranks[best]) >= 0).all()
    rest = np.setdiff1d(np.arange(len(objectives)), best)
    if k and len(rest):
        assert ranks[best].max() <= ranks[rest].min()


def test_integers_beyond_float64_are_told_apart():
    objectives = torch.tensor([[2**53 + 1, 0], [2**53, 0]])
    assert non_dominated_rank(objectives).tolist() == [1, 0]


def test_the_arguments_are_left_alone():
    objectives = torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]], requires_grad=True)
    before = objectives.detach().clone()
    assert non_dominated_rank(objectives).tolist() == [1, 1, 0]
    assert non_dominated_rank(objectives.flip(1)).tolist() == [1, 1, 0]
    torch.testing.assert_close(objectives.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("row", [[math.nan, 0.0], [0.0, math.nan]])
def test_nan_is_refused(row):
    objectives = torch.tensor([[1.0, 2.0], row])
    with pytest.raises(ValueError, match="non_dominated_rank: expected numbers, got NaN in row 1"):
        non_dominated_rank(objectives)
    with pytest.raises(ValueError, match="select_best: expected numbers, got NaN in row 1"):
        select_best(objectives, 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"expected objectives of shape \(n, 2\), got \(4, 3\)"):
        non_dominated_rank(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"expected ranks of shape \(4,\)"):
        crowding_distance(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected int64 ranks in 0 … 3, .* from 0 to 4"):
        crowding_distance(torch.zeros(4, 2), torch.tensor([0, 1, 4, 0]))
    with pytest.raises(ValueError, match=r"expected k in 0 … 4, the rows, got 5"):
        select_best(torch.zeros(4, 2), 5)
