"""Convolution, recurrence and step are one function, at any length and any split."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.testing import TOLERANCE, assert_close, relative_rms
from gonzo.ssm import S4, S4D, S4DKernel, S4Kernel

F32, F64 = torch.float32, torch.float64


@given(
    kind=st.sampled_from([S4, S4D]),
    n=st.sampled_from([2, 6, 16]),
    cuts=st.lists(st.integers(1, 39), max_size=4, unique=True),
    dtype=st.sampled_from([F32, F64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_conv_is_scan_is_step_is_any_split(kind, n, cuts, dtype, seed):
    torch.manual_seed(seed)
    layer = kind(3, n, dtype=dtype).eval()
    x = torch.randn(2, 40, 3, dtype=dtype)
    edges = [0, *sorted(cuts), 40]
    with torch.no_grad():
        whole = layer(x)
        state, chunks = layer.init_state(2), []
        for start, stop in itertools.pairwise(edges):
            if stop - start == 1:
                y, state = layer.step(x[:, start], state)
                y = y[:, None]
            else:
                y, state = layer.scan(x[:, start:stop], state)
            chunks.append(y)
    assert_close(torch.cat(chunks, 1), whole, dtype=dtype)


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_thousands_of_steps_agree(kind, dtype):
    operator = kind(16, 64, dtype=dtype)
    x = torch.randn(1, 4000, 16, dtype=dtype)
    with torch.no_grad():
        y, _ = operator.scan(x, operator.init_state(1))
        assert_close(y, operator(x))


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_longest_memories_agree(kind, dtype):
    operator = kind(16, 64, dt_max=1e-3)
    x = torch.randn(1, 4000, 16)
    with torch.no_grad():
        y, state = operator.scan(x, operator.init_state(1, dtype=dtype))
        assert_close(y, operator(x), dtype=F32)
        assert {t.dtype for t in state} == {dtype}


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("lengths", [(1, 2), (97, 1024), (784, 4096)])
def test_a_kernel_is_the_prefix_of_a_longer_one(kind, dtype, lengths):
    short, long = lengths
    operator = kind(4, 64, dtype=dtype)
    with torch.no_grad():
        kernel, longer = (operator.kernel(length, dtype=dtype) for length in lengths)
    assert (longer[:, :short] - kernel).abs().max() <= TOLERANCE[dtype] * longer.abs().max()
    assert longer.shape == (4, long)


@pytest.mark.parametrize("kind", [S4, S4D])
def test_training_at_one_length_serves_every_other(kind):
    """The original grows its parameters when it meets a longer input; here the prefix stays."""
    layer = kind(4, 16)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    x = torch.randn(2, 300, 4)
    for _ in range(3):
        optimizer.zero_grad()
        layer(x[:, :100]).square().mean().backward()
        optimizer.step()
    layer.eval()
    with torch.no_grad():
        y = layer(x)
        for length in (50, 100, 101, 200):
            assert_close(layer(x[:, :length]), y[:, :length])


@pytest.mark.parametrize("kind", [S4, S4D])
def test_running_never_changes_a_parameter(kind):
    """The original doubles C̃ inside forward, in evaluation too."""
    layer = kind(4, 16)
    before = copy.deepcopy(layer.state_dict())
    for mode in (layer.train, layer.eval):
        mode()
        for length in (10, 50, 25, 400):
            x = torch.randn(2, length, 4)
            y, state = layer.scan(x, layer.init_state(2))
            layer.step(x[:, 0], state)
            (layer(x).sum() + y.sum()).backward()
    after = layer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", [S4, S4D])
def test_a_state_is_stale_after_an_optimizer_step(kind):
    """It carries Ā, B̄ and C as they were, so that a step costs O(N); a new one is current."""
    layer = kind(4, 16)
    x = torch.randn(2, 30, 4)
    state = layer.init_state(2)
    y = layer(x)
    with torch.no_grad():
        layer.operator.log_dt.add_(0.1)
        stale, _ = layer.scan(x, state)
        current, _ = layer.scan(x, layer.init_state(2))
        assert_close(stale, y.detach())
        assert_close(current, layer(x))
        assert relative_rms(current, stale) > 1e-3


@pytest.mark.parametrize("kind", [S4Kernel, S4DKernel])
def test_a_state_may_be_kept_in_float32(kind):
    operator = kind(4, 16, dt_min=0.05)
    x = torch.randn(2, 60, 4)
    with torch.no_grad():
        y, state = operator.scan(x, operator.init_state(2, dtype=F32))
        assert {t.dtype for t in state} == {F32}
        assert_close(y, operator(x))
