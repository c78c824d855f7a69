import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import dlsim

from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.vandermonde import vandermonde
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends

F64 = torch.float64
# The sums run in the kernel's precision, so float64 inputs of a float32 kernel have its gradients.
FLOAT32_SUMS = {
    f"gradient of {name}": (TOLERANCE[torch.float32], "a float32 kernel is summed in float32")
    for name in ("c", "z")
}


def pairs(*shape, dtype=F64):
    return torch.randn(*shape, 2, dtype=dtype)


def bases(*shape, dtype=F64, slowest=1e-3):
    """Points z inside the unit circle, as pairs, with memories of 1 to 1/slowest steps."""
    size = torch.exp(-(slowest ** torch.rand(shape, dtype=F64)))
    return torch.view_as_real(torch.polar(size, 6.3 * torch.rand(shape, dtype=F64))).to(dtype)


def test_a_real_base_gives_a_geometric_series():
    c, z = torch.tensor([[[0.5, 0.3]]], dtype=F64), torch.tensor([[[0.9, 0.0]]], dtype=F64)
    expected = 0.9 ** torch.arange(50, dtype=F64)
    for name in ("reference", "cpu"):
        assert_close(vandermonde(c, z, 50, dtype=F64, backend=name)[0], expected)


def test_a_base_on_the_circle_gives_a_cosine():
    c = torch.tensor([[[0.5, 0.0]]], dtype=F64)
    z = torch.tensor([[[np.cos(0.3), np.sin(0.3)]]], dtype=F64)
    expected = torch.cos(0.3 * torch.arange(1000, dtype=F64))
    assert_close(vandermonde(c, z, 1000, dtype=F64)[0], expected)


def test_a_base_of_zero_gives_one_tap():
    c, z = pairs(2, 3), torch.zeros(2, 3, 2, dtype=F64)
    for name in ("reference", "cpu"):
        kernel = vandermonde(c, z, 40, dtype=F64, backend=name)
        assert_close(kernel[:, 0], 2 * c[..., 0].sum(1))
        assert not kernel[:, 1:].any()


def test_it_is_scipys_impulse_response():
    c, z = pairs(1, 3), bases(1, 3)
    a = np.zeros((6, 6))
    for k, (re, im) in enumerate(z[0].tolist()):
        a[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[re, -im], [im, re]]
    b = np.array([[1.0], [0.0]] * 3)
    read = (2 * c[0] * torch.tensor([1.0, -1.0])).numpy().reshape(1, 6)
    impulse = np.zeros(60)
    impulse[0] = 1.0
    _, y, _ = dlsim((a, b, read, np.zeros((1, 1)), 1), impulse)  # one step late: its x_0 is 0
    expected = torch.from_numpy(y[1:, 0])
    assert_close(vandermonde(c, z, 59, dtype=F64, backend="reference")[0], expected)


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 97, 256, 1009, 5003])
@pytest.mark.parametrize("inputs", [torch.float32, F64])
@pytest.mark.parametrize("output", [torch.float32, F64])
def test_backends_agree(length, inputs, output):
    compare_backends(
        functools.partial(vandermonde, length=length, dtype=output),
        {"c": pairs(3, 5, dtype=inputs), "z": bases(3, 5, dtype=inputs)},
        backends=["cpu"],
        exceptions=FLOAT32_SUMS if output == torch.float32 else None,
    )


@pytest.mark.parametrize("heads", [1, 2, 70])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_backends_agree_at_odd_sizes(heads, n):
    compare_backends(
        functools.partial(vandermonde, length=111, dtype=F64),
        {"c": pairs(heads, n), "z": bases(heads, n)},
        backends=["cpu", None],
    )


def test_many_blocks_of_heads_agree():
    compare_backends(
        functools.partial(vandermonde, length=2001, dtype=F64),
        {"c": pairs(150, 32), "z": bases(150, 32)},
        backends=["cpu"],
    )


def test_strides_do_not_matter():
    inputs = {"c": pairs(5, 3).transpose(0, 1), "z": bases(6, 5)[::2]}
    compare_backends(functools.partial(vandermonde, length=30, dtype=F64), inputs, backends=["cpu"])
    c, z = (t.requires_grad_() for t in inputs.values())
    vandermonde(c, z, 30).sum().backward()  # its gradient is an expanded scalar
    assert c.grad.isfinite().all()


def test_float32_keeps_its_digits_at_length_16384():
    c, z = pairs(4, 32), bases(4, 32, slowest=1e-4)
    exact = vandermonde(c, z, 16384, dtype=F64)
    error = (vandermonde(c, z, 16384) - exact).abs().max() / exact.abs().max()
    assert error < 5e-7


def test_gradcheck():
    c, z = pairs(2, 3).requires_grad_(), bases(2, 3).requires_grad_()
    for length in (1, 2, 40):
        assert torch.autograd.gradcheck(
            functools.partial(vandermonde, length=length, dtype=F64), (c, z)
        )


def test_opcheck():
    c, z = pairs(2, 3).requires_grad_(), bases(2, 3).requires_grad_()
    grad = torch.randn(2, 21, dtype=F64)
    op = torch.ops.gonzo
    torch.library.opcheck(op.vandermonde.default, (c, z, 21, F64, ""))
    for name in ("reference", "cpu"):
        torch.library.opcheck(op.vandermonde_backward.default, (grad, c.detach(), z.detach(), name))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph():
    compiled = torch.compile(functools.partial(vandermonde, length=33), fullgraph=True)
    c, z = pairs(2, 3).requires_grad_(), bases(2, 3).requires_grad_()
    assert_close(compiled(c, z), vandermonde(c, z, 33))
    weight = torch.randn(2, 33)
    expected = torch.autograd.grad(vandermonde(c, z, 33), (c, z), weight)
    for actual, grad in zip(
        torch.autograd.grad(compiled(c, z), (c, z), weight), expected, strict=True
    ):
        assert_close(actual, grad)


def test_results_do_not_depend_on_the_number_of_threads():
    c, z = pairs(40, 32), bases(40, 32)
    one = vandermonde(c, z, 700)
    torch.set_num_threads(2)
    assert_close(vandermonde(c, z, 700), one)


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.vandermonde import cpu

    c, z = pairs(2, 3).requires_grad_(), bases(2, 3)
    with backend("reference"):
        kernel = vandermonde(c, z, 9)
    monkeypatch.setattr(cpu, "backward", None)
    kernel.sum().backward()


def test_memory_is_a_few_times_the_kernel():
    c, z, grad = pairs(64, 32), bases(64, 32), torch.randn(64, 8192)
    forward = functools.partial(vandermonde, length=8192)
    needed = peak_memory(functools.partial(torch.autograd.functional.vjp, forward, (c, z), grad))
    assert needed <= 8 * grad.nbytes  # powers of all (heads, n, length) would be 64 times


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 200)),
    longer=st.integers(0, 200),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_kernel_is_linear_in_c_and_the_prefix_of_a_longer_one(sizes, longer, seed):
    heads, n, length = sizes
    torch.manual_seed(seed)
    c, d, z = pairs(heads, n), pairs(heads, n), bases(heads, n)
    kernel = vandermonde(c, z, length, dtype=F64)
    more = vandermonde(c, z, length + longer, dtype=F64)
    assert_close(more[:, :length], kernel)
    other = vandermonde(d, z, length, dtype=F64)
    assert_close(vandermonde(2 * c - 3 * d, z, length, dtype=F64), 2 * kernel - 3 * other)


ok = torch.zeros(2, 3, 2)
nan = torch.full((2, 3, 2), float("nan"))


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"expected c of shape \(heads, n, 2\), got \(3, 2\)",
         lambda: vandermonde(ok[0], ok, 4)),
        (ValueError, r"expected z of shape .*; did you mean torch.view_as_real\(...\)\?",
         lambda: vandermonde(ok, torch.view_as_complex(ok), 4)),
        (ValueError, r"c and z must have one shape, got \(2, 3, 2\) and \(1, 3, 2\)",
         lambda: vandermonde(ok, ok[:1], 4)),
        (TypeError, r"expected c in float32 or float64, got torch.bfloat16; .* use c.double\(\)",
         lambda: vandermonde(ok.bfloat16(), ok.bfloat16(), 4)),
        (TypeError, "c and z must share dtype and device, got torch.float32 .* and torch.float64",
         lambda: vandermonde(ok, ok.double(), 4)),
        (ValueError, "expected a length of at least 1, got 0", lambda: vandermonde(ok, ok, 0)),
        (TypeError, "expected dtype torch.float32 or torch.float64, got torch.bfloat16; cast the",
         lambda: vandermonde(ok, ok, 4, dtype=torch.bfloat16)),
        (ValueError, "unknown backend 'cuda'; expected one of reference, cpu, triton",
         lambda: vandermonde(ok, ok, 4, backend="cuda")),
        (ValueError, "vandermonde: z holds NaN or infinite values; a parameter of the layer has",
         lambda: vandermonde(ok, nan, 4)),
        (ValueError, "vandermonde: c, z hold NaN", lambda: vandermonde(nan, nan / 0, 4)),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    c, z = pairs(2, 3).requires_grad_(), bases(2, 3).requires_grad_()
    (grad,) = torch.autograd.grad(vandermonde(c, z, 9).square().sum(), z, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
