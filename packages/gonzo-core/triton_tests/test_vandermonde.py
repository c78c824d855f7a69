import functools

import pytest
import torch

from gonzo.core.ops.vandermonde import vandermonde
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends

F32, F64 = torch.float32, torch.float64
# The sums run in the kernel's precision, so float64 inputs of a float32 kernel have its gradients.
FLOAT32_SUMS = {
    f"gradient of {name}": (TOLERANCE[F32], "a float32 kernel is summed in float32")
    for name in ("c", "z")
}


def inputs(device, heads, n, dtype=F64, *, slowest=1e-3):
    """c, and z inside the unit circle with memories of 1 to 1/slowest steps, as pairs."""
    size = torch.exp(-(slowest ** torch.rand(heads, n, dtype=F64)))
    z = torch.view_as_real(torch.polar(size, 6.3 * torch.rand(heads, n, dtype=F64)))
    c = torch.randn(heads, n, 2, dtype=F64)
    return {"c": c.to(device, dtype), "z": z.to(device, dtype)}


def compare(length, output, arguments):
    compare_backends(
        functools.partial(vandermonde, length=length, dtype=output),
        arguments,
        backends=["triton"],
        exceptions=FLOAT32_SUMS if output == F32 else None,
    )


@pytest.mark.parametrize("length", [1, 2, 3, 64, 65, 1009, 1025])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("output", [F32, F64])
def test_it_agrees_with_the_reference(device, length, dtype, output):
    compare(length, output, inputs(device, 2, 5, dtype))


@pytest.mark.parametrize("output", [F32, F64])
def test_every_configuration_agrees(device, configuration, output):
    compare(1500, output, inputs(device, 1, 17))


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("n", [1, 16, 33])
@pytest.mark.parametrize("output", [F32, F64])
def test_it_agrees_at_odd_sizes(device, heads, n, output):
    compare(300, output, inputs(device, heads, n))


@pytest.mark.parametrize(("length", "output"), [(4099, F64), (9001, F32)])
def test_wide_rows_agree(device, length, output):
    """Rows of the backward are wider past 4096 taps; these end a little after a block of them."""
    compare(length, output, inputs(device, 1, 3))


def test_a_base_of_zero_gives_one_tap(device):
    arguments = inputs(device, 2, 3)
    arguments["z"] *= 0
    for output in (F32, F64):
        kernel = vandermonde(**arguments, length=70, dtype=output, backend="triton")
        assert_close(kernel[:, 0], 2 * arguments["c"][..., 0].sum(1))
        assert not kernel[:, 1:].any()
        compare(70, output, arguments)


def test_strides_do_not_matter(device):
    c, z = inputs(device, 4, 6).values()
    arguments = {"c": c.transpose(0, 1), "z": z.transpose(0, 1)}
    compare(30, F64, arguments)
    arguments = {"c": c[::2], "z": z[::2]}
    compare(30, F32, arguments)
    c, z = (t.requires_grad_() for t in arguments.values())
    vandermonde(c, z, 30, backend="triton").sum().backward()  # its gradient is an expanded scalar
    expected = torch.autograd.grad(vandermonde(c, z, 30, backend="reference").sum(), (c, z))
    for actual, grad in zip((c.grad, z.grad), expected, strict=True):
        assert_close(actual, grad, tolerance=TOLERANCE[F32], because="a float32 kernel")


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
def test_no_heads_and_no_modes(device, shape):
    c, z = torch.randn(2, *shape, device=device).requires_grad_()
    kernel = vandermonde(c, z, 5, backend="triton")
    assert kernel.shape == (shape[0], 5)
    assert not kernel.any()
    kernel.sum().backward()


def test_float32_keeps_its_digits_at_length_16384(device):
    arguments = inputs(device, 1, 32, slowest=1e-4)
    exact = vandermonde(**arguments, length=16384, dtype=F64, backend="reference")
    kernel = vandermonde(**arguments, length=16384, backend="triton")
    assert (kernel - exact).abs().max() < 5e-7 * exact.abs().max()


def test_it_repeats_bit_for_bit(device):
    c, z = (t.requires_grad_() for t in inputs(device, 3, 20, F32).values())
    runs = []
    for _ in range(2):
        kernel = vandermonde(c, z, 5000, backend="triton")
        runs.append([kernel, *torch.autograd.grad(kernel.square().sum(), (c, z))])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
