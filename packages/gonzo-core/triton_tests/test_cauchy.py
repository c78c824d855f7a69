import functools

import pytest
import torch

from gonzo.core.ops.cauchy import cauchy
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends

F32, F64 = torch.float32, torch.float64
NAMES = ("cb", "cp", "qb", "qp", "w")
# Aliasing is weighed against rounding for the kernel's precision, and gradients go the same way.
FLOAT32_CIRCLE = {
    f"gradient of {name}": (TOLERANCE[F32], "a float32 kernel has a float32 circle")
    for name in NAMES
}


def inputs(device, heads, n, dtype=F64, *, rank=None, slowest=1e-2):
    """The arguments of the op for random stable models A = Λ - P P* and steps Δ."""
    b, c = (torch.randn(heads, n, dtype=torch.complex128) for _ in range(2))
    p = torch.randn(heads, rank or 1, n, dtype=torch.complex128)
    a = torch.complex(-torch.rand(heads, n, dtype=F64), 10 * torch.randn(heads, n, dtype=F64))
    dt = slowest ** torch.rand(heads, 1, dtype=F64)
    c, p_dt = dt * c, dt[:, None] * p
    qp = p.conj().unsqueeze(2) * p_dt.unsqueeze(1)
    values = c * b, c[:, None] * p, p_dt.conj() * b[:, None], qp, dt * a
    if rank is None:
        values = values[0], values[1][:, 0], values[2][:, 0], qp[:, 0, 0], values[4]
    return {
        name: torch.view_as_real(v.resolve_conj()).to(device, dtype)
        for name, v in zip(NAMES, values, strict=True)
    }


def compare(length, output, arguments):
    compare_backends(
        functools.partial(cauchy, length=length, dtype=output),
        arguments,
        backends=["triton"],
        exceptions=FLOAT32_CIRCLE if output == F32 else None,
    )


@pytest.mark.parametrize("length", [1, 2, 3, 97, 257])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("output", [F32, F64])
def test_it_agrees_with_the_reference(device, length, dtype, output):
    compare(length, output, inputs(device, 2, 5, dtype))


def test_every_configuration_agrees(device, configuration):
    compare(150, F64, inputs(device, 2, 17))


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_it_agrees_at_odd_sizes(device, heads, n):
    compare(111, F64, inputs(device, heads, n))


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("output", [F32, F64])
def test_it_agrees_at_any_rank(device, output, rank):
    for heads, n, length, dtype in ((2, 5, 97, F32), (1, 1, 1, F64)):
        compare(length, output, inputs(device, heads, n, dtype, rank=rank))


def test_every_configuration_agrees_at_rank_two(device, configuration):
    compare(150, F64, inputs(device, 2, 17, rank=2))


@pytest.mark.parametrize("rank", [None, 2])
def test_several_blocks_of_heads_and_spans_of_nodes_agree(device, rank, monkeypatch):
    from gonzo.core.ops.cauchy import triton

    monkeypatch.setattr(triton, "_SPECTRUM_BYTES", 1 << 13)
    monkeypatch.setattr(triton, "_SPAN", 100)
    compare(512, F32, inputs(device, 5, 3, rank=rank))


def test_poles_near_the_circle_agree(device):
    """The slowest modes lie next to a node, and the fastest beyond all of them."""
    frequency = torch.pi * torch.arange(16, dtype=F64)
    a = torch.complex(torch.full_like(frequency, -0.5), frequency)
    dt = torch.tensor([[1e-3], [1e-1], [3.0]], dtype=F64)
    arguments = inputs(device, 3, 16)
    arguments["w"] = torch.view_as_real(dt * a).to(device)
    compare(200, F64, arguments)
    compare(2000, F32, arguments)


def test_strides_do_not_matter(device):
    arguments = inputs(device, 4, 3, rank=2)
    compare(
        30, F64, {k: t.transpose(0, 1).contiguous().transpose(0, 1) for k, t in arguments.items()}
    )
    arguments = {name: t.transpose(0, 1) for name, t in inputs(device, 4, 3).items()}
    compare(30, F64, arguments)
    leaves = [t.requires_grad_() for t in arguments.values()]
    actual = torch.autograd.grad(cauchy(*leaves, 30, dtype=F64, backend="triton").sum(), leaves)
    expected = torch.autograd.grad(
        cauchy(*leaves, 30, dtype=F64, backend="reference").sum(), leaves
    )
    for ours, judge in zip(actual, expected, strict=True):
        assert_close(ours, judge)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
@pytest.mark.parametrize("rank", [None, 2])
def test_no_heads_and_no_modes(device, shape, rank):
    heads, n, _ = shape
    leaves = [t.requires_grad_() for t in inputs(device, heads, n, F32, rank=rank).values()]
    kernel = cauchy(*leaves, 5, backend="triton")
    assert kernel.shape == (shape[0], 5)
    assert not kernel.any()
    kernel.sum().backward()


@pytest.mark.parametrize(("rank", "n", "length"), [(None, 10, 300), (2, 3, 90)])
def test_it_repeats_bit_for_bit(device, rank, n, length):
    leaves = [t.requires_grad_() for t in inputs(device, 3, n, F32, rank=rank).values()]
    runs = []
    for _ in range(2):
        kernel = cauchy(*leaves, length, backend="triton")
        runs.append([kernel, *torch.autograd.grad(kernel.square().sum(), leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
