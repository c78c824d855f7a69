"""The latency bound against closed forms, a search over all cycles, and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.ithemal.batch import RELATIONS, Batch, EncodedBlocks
from gonzo.ithemal.chains import latency_bound


def graph(blocks: list[tuple[int, list[tuple[int, int, bool]]]]) -> Batch:
    """A batch of blocks of some length with edges (producer, consumer, carried)."""
    starts = np.cumsum([0, *(n for n, _ in blocks)])
    edges = [
        [(p, c, RELATIONS.index(("register", carried))) for p, c, carried in sorted(e, key=_by)]
        for _, e in blocks
    ]
    return EncodedBlocks(
        np.array([0]),
        np.array([0, 1]),
        np.zeros(starts[-1], dtype=np.int64),
        starts,
        np.array(list(itertools.chain(*edges)), dtype=np.int64).reshape(-1, 3),
        np.cumsum([0, *map(len, edges)]),
    ).batch(range(len(blocks)))


def _by(edge: tuple[int, int, bool]) -> int:
    return edge[1]


def test_a_chain_through_repetitions_costs_its_latencies() -> None:
    # imul rax, rbx (3 cycles) feeds add rax, rcx (1), which feeds the next imul.
    batch = graph([(2, [(0, 1, False), (1, 0, True)])])
    latency = torch.tensor([[1.0, 0.5], [3.0, 0.25]])  # ordered by consumer: 0 first
    torch.testing.assert_close(latency_bound(latency, batch), torch.tensor([[4.0, 0.75]]))


def test_a_chain_that_does_not_come_back_costs_nothing() -> None:
    batch = graph([(3, [(0, 1, False), (1, 2, False), (2, 0, False)][:2])])
    assert latency_bound(torch.tensor([[5.0], [5.0]]), batch).item() == 0


def test_the_longest_of_two_cycles_counts_and_has_the_gradient() -> None:
    batch = graph([(2, [(0, 0, True), (1, 1, True)]), (1, [(0, 0, True)]), (4, [])])
    latency = torch.tensor([[2.0], [3.0], [0.5]], requires_grad=True)
    bound = latency_bound(latency, batch)
    torch.testing.assert_close(bound[batch.place], torch.tensor([[3.0], [0.5], [0.0]]))
    (gradient,) = torch.autograd.grad(bound[batch.place].T @ torch.tensor([1.0, 10, 100]), latency)
    torch.testing.assert_close(gradient, torch.tensor([[0.0], [1.0], [10.0]]))


def test_a_cycle_over_two_repetitions_costs_half() -> None:
    # xchg-like: 0 feeds the next 1, 1 feeds the next 0, so the cycle takes two repetitions.
    batch = graph([(2, [(1, 0, True), (0, 1, True)])])
    bound = latency_bound(torch.tensor([[5.0], [2.0]]), batch)
    torch.testing.assert_close(bound, torch.tensor([[3.5]]))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_bound_is_the_largest_mean_of_a_cycle(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 4))
    pairs = [(p, c, p >= c) for p in range(n) for c in range(n)]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1, max_size=8))
    batch = graph([(n, edges)])
    edges = sorted(edges, key=_by)
    latency = data.draw(
        st.lists(st.integers(1, 5), min_size=len(edges), max_size=len(edges)).map(
            lambda values: torch.tensor(values, dtype=torch.float32)[:, None]
        )
    )
    best = 0.0
    table = {(p, c): (float(w), k) for (p, c, k), (w,) in zip(edges, latency, strict=True)}
    for size in range(1, n + 1):
        for nodes in itertools.permutations(range(n), size):
            hops = list(zip(nodes, (*nodes[1:], nodes[0]), strict=True))
            if all(hop in table for hop in hops):
                weight = sum(table[hop][0] for hop in hops)
                best = max(best, weight / sum(table[hop][1] for hop in hops))
    # Exact once the chains have settled, and for any period that divides half the repetitions.
    assert latency_bound(latency, batch).item() == pytest.approx(best, abs=5 / 8)


def test_the_gradient_of_the_bound_is_that_of_finite_differences() -> None:
    batch = graph(
        [(3, [(0, 1, False), (1, 2, False), (2, 0, True), (2, 2, True)]), (1, [(0, 0, True)])]
    )
    latency = torch.tensor([1.0, 1.5, 0.25, 0.7, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(latency_bound(latency[:, None], batch).sum(), latency)
    for edge in range(5):
        moved = [latency.detach().clone() for _ in range(2)]
        for sign, values in zip((1, -1), moved, strict=True):
            values[edge] += sign * 0.125
        ends = [latency_bound(values[:, None], batch).sum() for values in moved]
        torch.testing.assert_close((ends[0] - ends[1]) / 0.25, gradient[edge])
