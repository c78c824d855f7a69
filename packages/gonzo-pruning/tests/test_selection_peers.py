"""The benchmarks' peers pick what ours does, but for ties and the rules' own mistakes."""

from pathlib import Path

import pytest
import torch

from gonzo.core.testing import imports_from
from gonzo.pruning.masks import Masks
from gonzo.pruning.selection import prune_by_magnitude

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists(), reason="the benchmarks are not beside the tests"
)


@pytest.fixture
def peers():
    with imports_from(BENCHMARKS):
        from peers import selection

        yield selection


@pytest.fixture
def weights():
    """Distinct magnitudes."""
    values = torch.randperm(60).double() + 1
    values[::2] *= -1
    return {"a": values[:40].view(8, 5), "b": values[40:]}


def full(weights):
    return Masks({n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()})


def test_kthvalue_is_exact_without_ties(peers, weights):
    masks = full(weights)
    for _ in range(3):
        expected = prune_by_magnitude(weights, masks, 0.2, scope="global")
        assert Masks(peers.kth_value(weights, masks, 0.2)) == expected
        masks = expected


@pytest.mark.parametrize("rule", ["lottery_ticket_hypothesis", "open_lth"])
def test_the_rules_take_one_more(peers, weights, rule):
    found = Masks(getattr(peers, rule)(weights, full(weights), 0.2))
    assert (found.alive, prune_by_magnitude(weights, full(weights), 0.2).alive) == (47, 48)


@pytest.mark.parametrize("rule", ["kth_value", "lottery_ticket_hypothesis", "open_lth"])
def test_they_take_all_ties(peers, rule):
    weights = {"a": torch.tensor([1.0] * 8 + [2.0] * 2)}
    assert Masks(getattr(peers, rule)(weights, full(weights), 0.2)).alive == 2
    assert prune_by_magnitude(weights, full(weights), 0.2).alive == 8
