import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import cont2discrete, dlsim

from gonzo.core.backends import backend
from gonzo.core.bench import peak_memory
from gonzo.core.ops.cauchy import cauchy
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends

F64 = torch.float64
NAMES = ("cb", "cp", "qb", "qp", "w")
# Aliasing is weighed against rounding for the kernel's precision, and gradients go the same way.
FLOAT32_CIRCLE = {
    f"gradient of {name}": (TOLERANCE[torch.float32], "a float32 kernel has a float32 circle")
    for name in NAMES
}


def real(complex_pairs):
    return torch.view_as_real(complex_pairs.resolve_conj().contiguous())


def model(heads, n, *, slowest=1e-2):
    """Λ, P, B, C (heads, n) complex of a stable A = Λ - P P*, and the steps Δ (heads, 1)."""
    b, c, p = (torch.randn(heads, n, dtype=torch.complex128) for _ in range(3))
    a = torch.complex(-torch.rand(heads, n, dtype=F64), 10 * torch.randn(heads, n, dtype=F64))
    return a, p, b, c, slowest ** torch.rand(heads, 1, dtype=F64)


def sums(a, p, b, c, dt):
    """The five arguments of the op."""
    q = p.conj()
    return tuple(real(dt * v) for v in (c * b, c * p, q * b, q * p, a))


def arguments(heads, n, dtype=F64):
    return dict(zip(NAMES, (t.to(dtype) for t in sums(*model(heads, n))), strict=True))


def powers(a, b, c, dt, length):
    """The Krylov sequence C Ā^l B̄ of a dense model, bilinear, by solving and multiplying."""
    eye = torch.eye(len(a), dtype=a.dtype)
    left = eye - dt / 2 * a
    x, a_bar = torch.linalg.solve(left, dt * b), torch.linalg.solve(left, eye + dt / 2 * a)
    taps = []
    for _ in range(length):
        taps.append(c @ x)
        x = a_bar @ x
    return torch.stack(taps)


def hippo(n):
    """The dense HiPPO-LegS A and B, P, and the eigenvectors of A + P Pᵀ, one of each pair."""
    root = torch.sqrt(2 * torch.arange(n, dtype=F64) + 1)
    a = -torch.tril(torch.outer(root, root), -1) - torch.diag(torch.arange(1, n + 1, dtype=F64))
    p = root / 2**0.5
    frequency, vectors = torch.linalg.eigh(-1j * (a + torch.outer(p, p) + torch.eye(n) / 2))
    eigenvalues = torch.complex(torch.full_like(frequency, -0.5), frequency)
    return a, root, p, eigenvalues[n // 2 :], vectors[:, n // 2 :]


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize(("n", "dt", "length"), [(8, 0.1, 200), (64, 0.01, 1000), (2, 1.0, 33)])
def test_it_is_the_krylov_sequence_of_dense_hippo(n, dt, length, name):
    a, b, p, eigenvalues, vectors = hippo(n)
    c = torch.randn(n, dtype=F64)
    expected = powers(a, b, c, dt, length)
    p, b, c = ((vectors.mH @ v.to(vectors.dtype))[None] for v in (p, b, c))
    inputs = sums(eigenvalues[None], p, b, c.conj(), torch.tensor([[dt]], dtype=F64))
    kernel = cauchy(*inputs, length, dtype=F64, backend=name)[0]
    assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()
    single = cauchy(*inputs, length, backend=name)[0]
    assert (single - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_it_is_the_krylov_sequence_of_a_random_stable_model(name):
    a, p, b, c, dt = model(6, 5)
    kernel = cauchy(*sums(a, p, b, c, dt), 301, dtype=F64, backend=name)
    for h in range(6):
        a_, p_, b_, c_ = (torch.cat([v[h], v[h].conj()]) for v in (a, p, b, c))
        dense = torch.diag(a_) - torch.outer(p_, p_.conj())
        expected = powers(dense, b_, c_, dt[h], 301)
        assert expected.imag.abs().max() < 1e-10
        assert (kernel[h] - expected.real).abs().max() <= 1e-10 * expected.real.abs().max()


def test_it_is_scipys_impulse_response():
    a, p, b, c, dt = model(1, 2)
    turn = np.kron([[1, 1], [1j, -1j]], np.eye(2)) / 2**0.5  # conjugate pairs to real numbers
    a_, p_, b_, c_ = (torch.cat([v[0], v[0].conj()]).numpy() for v in (a, p, b, c))
    dense = turn @ (np.diag(a_) - np.outer(p_, p_.conj())) @ turn.conj().T
    b_, c_ = (turn @ b_)[:, None], (c_ @ turn.conj().T)[None]
    a_bar, b_bar, *_ = cont2discrete(
        (dense.real, b_.real, c_.real, np.zeros((1, 1))), dt.item(), method="bilinear"
    )
    impulse = np.zeros(81)
    impulse[0] = 1.0
    # SciPy's bilinear C reads between steps; the op reads x after the step, that is C itself.
    _, y, _ = dlsim((a_bar, b_bar, c_.real, np.zeros((1, 1)), 1.0), impulse)
    kernel = cauchy(*sums(a, p, b, c, dt), 80, dtype=F64)[0]
    expected = torch.from_numpy(y[1:, 0])
    assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_without_p_it_is_a_sum_of_powers():
    a, p, b, c, dt = model(2, 3)
    z = (1 + dt * a / 2) / (1 - dt * a / 2)
    lag = torch.arange(100)
    taps = (c * b * dt / (1 - dt * a / 2))[..., None] * z[..., None] ** lag
    expected = 2 * taps.sum(1).real
    kernel = cauchy(*sums(a, 0 * p, b, c, dt), 100, dtype=F64)
    assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()


@pytest.mark.parametrize("length", [1, 2, 3, 16, 97, 128, 1009, 4099])
@pytest.mark.parametrize("inputs", [torch.float32, F64])
@pytest.mark.parametrize("output", [torch.float32, F64])
def test_backends_agree(length, inputs, output):
    compare_backends(
        functools.partial(cauchy, length=length, dtype=output),
        arguments(3, 5, inputs),
        backends=["cpu"],
        exceptions=FLOAT32_CIRCLE if output == torch.float32 else None,
    )


@pytest.mark.parametrize("heads", [1, 2, 40])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_backends_agree_at_odd_sizes(heads, n):
    compare_backends(
        functools.partial(cauchy, length=111, dtype=F64),
        arguments(heads, n),
        backends=["cpu", None],
    )


def test_many_blocks_of_heads_agree():
    compare_backends(
        functools.partial(cauchy, length=4001), arguments(70, 2), backends=["cpu"],
        exceptions=FLOAT32_CIRCLE,
    )  # fmt: skip


def test_strides_do_not_matter():
    inputs = {
        name: tensor.repeat_interleave(2, 1)[:, ::2].transpose(0, 1).contiguous().transpose(0, 1)
        for name, tensor in arguments(3, 5).items()
    }
    compare_backends(functools.partial(cauchy, length=30, dtype=F64), inputs, backends=["cpu"])
    inputs = [t.requires_grad_() for t in inputs.values()]
    cauchy(*inputs, 30).sum().backward()  # its gradient is an expanded scalar
    assert all(t.grad.isfinite().all() for t in inputs)


def test_gradcheck():
    inputs = [t.requires_grad_() for t in arguments(2, 3).values()]
    for length in (1, 2, 25):
        assert torch.autograd.gradcheck(functools.partial(cauchy, length=length, dtype=F64), inputs)


def test_opcheck():
    inputs = [t.requires_grad_() for t in arguments(2, 3).values()]
    constants, grad = [t.detach() for t in inputs], torch.randn(2, 21, dtype=F64)
    op = torch.ops.gonzo
    torch.library.opcheck(op.cauchy.default, (*inputs, 21, F64, ""))
    for name in ("reference", "cpu"):
        torch.library.opcheck(op.cauchy_backward.default, (grad, *constants, name))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph():
    compiled = torch.compile(functools.partial(cauchy, length=33), fullgraph=True)
    inputs = [t.requires_grad_() for t in arguments(2, 3).values()]
    assert_close(compiled(*inputs), cauchy(*inputs, 33))
    weight = torch.randn(2, 33)
    expected = torch.autograd.grad(cauchy(*inputs, 33), inputs, weight)
    for actual, grad in zip(
        torch.autograd.grad(compiled(*inputs), inputs, weight), expected, strict=True
    ):
        assert_close(actual, grad)


def test_results_do_not_depend_on_the_number_of_threads():
    inputs = arguments(20, 5).values()
    one = cauchy(*inputs, 700)
    torch.set_num_threads(2)
    assert torch.equal(cauchy(*inputs, 700), one)


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.cauchy import cpu

    inputs = [t.requires_grad_() for t in arguments(2, 3).values()]
    with backend("reference"):
        kernel = cauchy(*inputs, 9)
    monkeypatch.setattr(cpu, "backward", None)
    kernel.sum().backward()


def test_memory_is_a_few_times_the_kernel():
    inputs, grad = tuple(arguments(64, 4).values()), torch.randn(64, 8192)
    forward = functools.partial(cauchy, length=8192)
    needed = peak_memory(functools.partial(torch.autograd.functional.vjp, forward, inputs, grad))
    assert needed <= 8 * grad.nbytes  # one sum for all (heads, n, nodes) would be 16 times


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 200)),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_kernel_is_the_prefix_of_a_longer_one(sizes, seed):
    heads, n, length = sizes
    torch.manual_seed(seed)
    inputs = arguments(heads, n).values()
    kernel = cauchy(*inputs, length, dtype=F64)
    longer = cauchy(*inputs, 2 * length, dtype=F64)
    assert (longer[:, :length] - kernel).abs().max() <= 1e-10 * longer.abs().max()


ok = torch.full((2, 3, 2), -1.0)
nan = torch.full((2, 3, 2), float("nan"))


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"expected cb of shape \(heads, n, 2\), got \(3, 2\)",
         lambda: cauchy(ok[0], ok, ok, ok, ok, 4)),
        (ValueError, r"expected w of shape .*; did you mean torch.view_as_real\(...\)\?",
         lambda: cauchy(ok, ok, ok, ok, torch.view_as_complex(ok), 4)),
        (ValueError, r"cb and qp must have one shape, got \(2, 3, 2\) and \(1, 3, 2\)",
         lambda: cauchy(ok, ok, ok, ok[:1], ok, 4)),
        (TypeError, r"expected cb in float32 or float64, got torch.float16; .* use cb.double\(\)",
         lambda: cauchy(ok.half(), ok, ok, ok, ok, 4)),
        (TypeError, "cb and w must share dtype and device, got torch.float32 .* and torch.float64",
         lambda: cauchy(ok, ok, ok, ok, ok.double(), 4)),
        (ValueError, "expected a length of at least 1, got 0",
         lambda: cauchy(ok, ok, ok, ok, ok, 0)),
        (TypeError, "expected dtype torch.float32 or torch.float64, got torch.float16; cast the",
         lambda: cauchy(ok, ok, ok, ok, ok, 4, dtype=torch.float16)),
        (ValueError, "unknown backend 'cuda'; expected one of reference, cpu, triton",
         lambda: cauchy(ok, ok, ok, ok, ok, 4, backend="cuda")),
        (ValueError, "cauchy: w holds NaN or infinite values; a parameter of the layer has",
         lambda: cauchy(ok, ok, ok, ok, nan, 4)),
        (ValueError, "cauchy: cb, qp hold NaN", lambda: cauchy(nan, ok, ok, nan, ok, 4)),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    inputs = [t.requires_grad_() for t in arguments(2, 3).values()]
    (grad,) = torch.autograd.grad(cauchy(*inputs, 9).square().sum(), inputs[-1], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
