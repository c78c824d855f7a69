"""The kernels of `sparse_linear` against the reference: outputs and all gradients."""

import pytest
import torch

from gonzo.core.ops.sparse_linear import SparsePattern, sparse_linear
from gonzo.core.testing import assert_close, poisoned_allocations

F32, F64 = torch.float32, torch.float64


def case(device, blocks, edge, dtype, batch, empty_row=True):
    """A pattern with an empty row of blocks, and arguments that learn."""
    coarse = torch.rand(blocks) < 0.5
    coarse[:, 0] = True
    if empty_row:
        coarse[0] = False
    mask = coarse.repeat_interleave(edge, 0).repeat_interleave(edge, 1).to(device)
    pattern = SparsePattern.from_mask(mask, block=edge)
    n_out, n_in = pattern.shape
    shapes = ((batch, n_in), pattern.values_shape, (n_out,), (batch, n_out))
    tensors = [torch.randn(shape, device=device).to(dtype) for shape in shapes]
    return pattern, [t.requires_grad_() for t in tensors[:3]], tensors[3]


def outcome(pattern, arguments, grad, which):
    x, values, bias = arguments
    y = sparse_linear(x, values, pattern, bias, backend=which)
    return y, *torch.autograd.grad(y, arguments, grad.to(y.dtype))


@pytest.mark.parametrize("dtype", [F32, F64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("edge", "blocks", "batch"), [(16, (3, 2), 7), (32, (2, 3), 70)])
def test_it_agrees_with_the_reference(device, edge, blocks, batch, dtype):
    pattern, arguments, grad = case(device, blocks, edge, dtype, batch)
    wide = [t.detach().double().requires_grad_() for t in arguments]
    expected = outcome(pattern, wide, grad, "reference")
    with poisoned_allocations():
        found = outcome(pattern, arguments, grad, "triton")
    for actual, e in zip(found, expected, strict=True):
        assert actual.dtype == dtype
        assert_close(actual, e.to(dtype) if dtype in (F32, F64) else e)


@pytest.mark.parametrize("edge", [64, 128])
def test_large_blocks(device, edge):
    pattern, arguments, grad = case(device, (2, 1), edge, torch.bfloat16, 3)
    wide = [t.detach().double().requires_grad_() for t in arguments]
    expected = outcome(pattern, wide, grad, "reference")
    for actual, e in zip(outcome(pattern, arguments, grad, "triton"), expected, strict=True):
        assert_close(actual, e)


@pytest.mark.parametrize("edge", [1, 3])
def test_other_patterns_are_computed_too(device, edge):
    pattern, arguments, grad = case(device, (4, 5), edge, F32, 6)
    expected = outcome(pattern, arguments, grad, "reference")
    for actual, e in zip(outcome(pattern, arguments, grad, "triton"), expected, strict=True):
        assert_close(actual, e)


def test_nothing_alive_and_an_empty_batch(device):
    pattern = SparsePattern.from_mask(
        torch.zeros(32, 16, dtype=torch.bool, device=device), block=16
    )
    bias = torch.randn(32, device=device)
    values = torch.empty(pattern.values_shape, device=device)
    y = sparse_linear(torch.randn(5, 16, device=device), values, pattern, bias, backend="triton")
    assert torch.equal(y, bias.expand(5, 32))
    pattern, (_, values, bias), _ = case(device, (2, 2), 16, F32, 1)
    empty = torch.randn(0, 32, device=device)
    assert sparse_linear(empty, values, pattern, bias, backend="triton").shape == (0, 32)


def test_strides_do_not_matter(device):
    pattern, (x, values, bias), _ = case(device, (2, 3), 16, F32, 9)
    expected = sparse_linear(x, values, pattern, bias, backend="triton")
    for other in (x.mT.contiguous().mT, torch.cat([x, x], 1)[:, :48], x.repeat(2, 1)[::2]):
        rows = sparse_linear(other, values, pattern, bias, backend="triton")
        wanted = expected if other.shape == x.shape and torch.equal(other, x) else None
        if wanted is not None:
            assert torch.equal(rows, wanted)
        assert_close(rows, sparse_linear(other, values, pattern, bias, backend="reference"))


def test_it_repeats_bit_for_bit(device):
    pattern, arguments, grad = case(device, (3, 3), 16, F32, 70)
    runs = [outcome(pattern, arguments, grad, "triton") for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)
