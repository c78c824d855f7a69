"""Batches: every row once an epoch, in an order that only the seed and the step decide."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gonzo.lab import Batches


@given(n=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 2**40))
def test_an_epoch_has_every_row_at_most_once(n: int, size: int, seed: int) -> None:
    size = min(n, size)
    batches = Batches(torch.arange(n), batch_size=size, seed=seed)
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        rows = torch.cat([batches.indices(step) for step in steps])
        assert len(rows) == len(set(rows.tolist())) == n // size * size


def test_order_is_a_function_of_seed_and_step() -> None:
    first, second = (Batches(torch.arange(50), batch_size=7, seed=4) for _ in range(2))
    in_turn = [first.at(step)[0].tolist() for step in range(30)]
    backwards = [second.at(step)[0].tolist() for step in reversed(range(30))][::-1]
    assert in_turn == backwards
    assert in_turn[:7] != in_turn[7:14]
    assert Batches(torch.arange(50), batch_size=7, seed=5).at(0)[0].tolist() != in_turn[0]


def test_rows_stay_together_and_the_global_generator_is_not_touched() -> None:
    x = torch.arange(20)
    before = torch.get_rng_state()
    a, b = Batches(x, x[:, None] * 2, batch_size=5, seed=0).at(3)
    assert torch.equal(b[:, 0], a * 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"one length, got \[3, 4\]"):
        Batches(torch.zeros(3), torch.zeros(4), batch_size=1, seed=0)
    with pytest.raises(ValueError, match="batch_size 4 is not within 1 … 3"):
        Batches(torch.zeros(3), batch_size=4, seed=0)
