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


def model(heads, n, *, rank=None, slowest=1e-2):
    """Λ, P, B, C complex of a stable A = Λ - P P*, and the steps Δ (heads, 1).

    Each is (heads, n), but for a given rank P is (heads, rank, n).
    """
    b, c = (torch.randn(heads, n, dtype=torch.complex128) for _ in range(2))
    p = torch.randn(heads, *(() if rank is None else (rank,)), n, dtype=torch.complex128)
    a = torch.complex(-torch.rand(heads, n, dtype=F64), 10 * torch.randn(heads, n, dtype=F64))
    return a, p, b, c, slowest ** torch.rand(heads, 1, dtype=F64)


def sums(a, p, b, c, dt, q=None):
    """The five arguments of the op."""
    q = (p if q is None else q).conj()
    if p.ndim == 2:
        return tuple(real(dt * v) for v in (c * b, c * p, q * b, q * p, a))
    rows = c[:, None] * p, q * b[:, None], q[:, :, None] * p[:, None]
    cp, qb, qp = (torch.einsum("hx,h...->h...", dt.to(v.dtype), v) for v in rows)
    return tuple(real(v) for v in (dt * c * b, cp, qb, qp, dt * a))


def arguments(heads, n, dtype=F64, *, rank=None):
    values = sums(*model(heads, n, rank=rank))
    return dict(zip(NAMES, (t.to(dtype) for t in values), strict=True))


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
    matches_krylov(kernel, a, p[:, None], p[:, None], b, c, dt)


def matches_krylov(kernel, a, p, q, b, c, dt):
    """Whether each head's kernel is the Krylov sequence of its dense Λ - Σ P_j Q_j*."""
    for h in range(len(kernel)):
        a_, p_, q_, b_, c_ = (torch.cat([v[h], v[h].conj()], -1) for v in (a, p, q, b, c))
        dense = torch.diag(a_) - torch.einsum("rn,rm->nm", p_, q_.conj())
        expected = powers(dense, b_, c_, dt[h], kernel.shape[1])
        assert expected.imag.abs().max() < 1e-10
        assert (kernel[h] - expected.real).abs().max() <= 1e-10 * expected.real.abs().max()


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_the_krylov_sequence_of_any_rank(rank, name):
    a, p, b, c, dt = model(6, 5, rank=rank)
    for q in (p, p + 0.1 * torch.randn_like(p)):  # the second is stable too, with P beside Q
        kernel = cauchy(*sums(a, p, b, c, dt, q), 301, dtype=F64, backend=name)
        matches_krylov(kernel, a, p, q, b, c, dt)
        single = cauchy(*sums(a, p, b, c, dt, q), 301, backend=name)
        assert single.dtype == torch.float32
        assert (single - kernel).abs().max() <= 1e-6 * kernel.abs().max()


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize(("n", "dt", "length"), [(8, 0.1, 200), (32, 0.01, 1000), (2, 1.0, 33)])
def test_it_is_the_krylov_sequence_of_dense_hippo_legt(n, dt, length, name):
    """HiPPO-LegT is skew-symmetric minus P Pᵀ of rank two: its even rows, and its odd ones."""
    order = torch.arange(n)
    b = torch.sqrt(2 * order.double() + 1)
    above = (order[:, None] < order) & ((order[:, None] - order) % 2 == 1)
    a = torch.outer(b, b) * torch.where(above, 1.0, -1.0)
    p = torch.stack([b * (order % 2 == parity) for parity in (0, 1)])
    skew, c = a + p.T @ p, torch.randn(n, dtype=F64)
    assert torch.equal(skew, -skew.T)
    expected = powers(a, b, c, dt, length)
    frequency, vectors = torch.linalg.eigh(-1j * skew)
    eigenvalues, vectors = 1j * frequency[n // 2 :], vectors[:, n // 2 :]
    b, c, *p = ((vectors.mH @ v.to(vectors.dtype))[None] for v in (b, c, *p))
    p = torch.stack(p, 1)
    inputs = sums(eigenvalues[None], p, b, c.conj(), torch.tensor([[dt]], dtype=F64))
    kernel = cauchy(*inputs, length, dtype=F64, backend=name)[0]
    assert (kernel - expected).abs().max() <= 1e-10 * expected.abs().max()
    single = cauchy(*inputs, length, backend=name)[0]
    assert (single - expected).abs().max() <= 1e-6 * expected.abs().max()


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


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("inputs", [torch.float32, F64])
@pytest.mark.parametrize("output", [torch.float32, F64])
def test_backends_agree_at_any_rank(output, inputs, rank):
    for heads, n, length in ((3, 5, 1), (1, 1, 2), (2, 33, 97), (5, 2, 1009)):
        compare_backends(
            functools.partial(cauchy, length=length, dtype=output),
            arguments(heads, n, inputs, rank=rank),
            backends=["cpu", None],
            exceptions=FLOAT32_CIRCLE if output == torch.float32 else None,
        )


def test_an_axis_for_rank_one_changes_nothing():
    plain = {name: t.requires_grad_() for name, t in arguments(3, 5, torch.float32).items()}
    axes = {"cp": (1,), "qb": (1,), "qp": (1, 1)}
    ranked = {
        name: t.detach().reshape(3, *axes.get(name, ()), 5, 2).requires_grad_()
        for name, t in plain.items()
    }
    kernels = [cauchy(**inputs, length=99) for inputs in (plain, ranked)]
    assert torch.equal(*kernels)
    for kernel in kernels:
        kernel.square().sum().backward()
    for name, tensor in plain.items():
        assert torch.equal(ranked[name].grad, tensor.grad.view_as(ranked[name]))


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_the_op_itself_takes_an_axis_for_rank_one(name):
    inputs = list(arguments(2, 3, rank=1).values())
    op, grad = torch.ops.gonzo, torch.randn(2, 21, dtype=F64)
    plain = [inputs[0], inputs[1][:, 0], inputs[2][:, 0], inputs[3][:, 0, 0], inputs[4]]
    assert_close(op.cauchy(*inputs, 21, F64, name), op.cauchy(*plain, 21, F64, name))
    for actual, expected in zip(
        op.cauchy_backward(grad, *inputs, name), op.cauchy_backward(grad, *plain, name), strict=True
    ):
        assert_close(actual, expected.view_as(actual))


def test_a_zero_second_vector_changes_nothing():
    inputs = arguments(3, 5)
    zero = torch.zeros(3, 1, 5, 2, dtype=F64)
    row = torch.stack([torch.cat([inputs["qp"][:, None], zero], 1), zero.expand(3, 2, 5, 2)], 1)
    wider = {
        "cb": inputs["cb"],
        "cp": torch.cat([inputs["cp"][:, None], zero], 1),
        "qb": torch.cat([inputs["qb"][:, None], zero], 1),
        "qp": row,
        "w": inputs["w"],
    }
    assert_close(cauchy(**wider, length=77, dtype=F64), cauchy(**inputs, length=77, dtype=F64))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
@pytest.mark.parametrize("rank", [None, 2])
def test_no_heads_and_no_modes(rank, shape):
    leaves = [t.requires_grad_() for t in arguments(*shape, rank=rank).values()]
    kernel = cauchy(*leaves, 5)
    assert kernel.shape == (shape[0], 5)
    assert not kernel.any()
    kernel.sum().backward()


@pytest.mark.parametrize("heads", [1, 2, 40])
@pytest.mark.parametrize("n", [1, 2, 33])
def test_backends_agree_at_odd_sizes(heads, n):
    compare_backends(
        functools.partial(cauchy, length=111, dtype=F64),
        arguments(heads, n),
        backends=["cpu", None],
    )


@pytest.mark.parametrize(("heads", "rank"), [(70, None), (15, 2)])
def test_many_blocks_of_heads_agree(heads, rank):
    compare_backends(
        functools.partial(cauchy, length=4001), arguments(heads, 2, rank=rank), backends=["cpu"],
        exceptions=FLOAT32_CIRCLE,
    )  # fmt: skip


@pytest.mark.parametrize("rank", [None, 2])
def test_strides_do_not_matter(rank):
    inputs = {
        name: tensor.repeat_interleave(2, 1)[:, ::2].transpose(0, 1).contiguous().transpose(0, 1)
        for name, tensor in arguments(3, 5, rank=rank).items()
    }
    compare_backends(functools.partial(cauchy, length=30, dtype=F64), inputs, backends=["cpu"])
    inputs = [t.requires_grad_() for t in inputs.values()]
    cauchy(*inputs, 30).sum().backward()  # its gradient is an expanded scalar
    assert all(t.grad.isfinite().all() for t in inputs)


@pytest.mark.parametrize("rank", [None, 2, 3])
def test_gradcheck(rank):
    inputs = [t.requires_grad_() for t in arguments(2, 3, rank=rank).values()]
    for length in (1, 2, 25):
        assert torch.autograd.gradcheck(functools.partial(cauchy, length=length, dtype=F64), inputs)


@pytest.mark.parametrize("rank", [None, 2])
def test_opcheck(rank):
    inputs = [t.requires_grad_() for t in arguments(2, 3, rank=rank).values()]
    constants, grad = [t.detach() for t in inputs], torch.randn(2, 21, dtype=F64)
    op = torch.ops.gonzo
    torch.library.opcheck(op.cauchy.default, (*inputs, 21, F64, ""))
    for name in ("reference", "cpu"):
        torch.library.opcheck(op.cauchy_backward.default, (grad, *constants, name))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("rank", [None, 1, 2])
def test_compiles_as_one_graph(rank):
    compiled = torch.compile(functools.partial(cauchy, length=33), fullgraph=True)
    inputs = [t.requires_grad_() for t in arguments(2, 3, rank=rank).values()]
    assert_close(compiled(*inputs), cauchy(*inputs, 33))
    weight = torch.randn(2, 33)
    expected = torch.autograd.grad(cauchy(*inputs, 33), inputs, weight)
    for actual, grad in zip(
        torch.autograd.grad(compiled(*inputs), inputs, weight), expected, strict=True
    ):
        assert_close(actual, grad)


@pytest.mark.parametrize("rank", [None, 2])
def test_results_do_not_depend_on_the_number_of_threads(rank):
    inputs = arguments(20, 5, rank=rank).values()
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


def test_memory_at_rank_two_is_a_few_times_the_kernel():
    inputs, grad = tuple(arguments(256, 4, rank=2).values()), torch.randn(256, 8192)
    forward = functools.partial(cauchy, length=8192)
    needed = peak_memory(functools.partial(torch.autograd.functional.vjp, forward, inputs, grad))
    assert needed <= 4 * grad.nbytes  # all sums of all heads would be 24 times


@pytest.mark.parametrize("rank", [1, 2])
def test_shapes_are_known_without_values(rank):
    inputs = [t.to("meta").requires_grad_() for t in arguments(3, 5, rank=rank).values()]
    kernel = cauchy(*inputs, 21)
    assert (kernel.shape, kernel.dtype) == ((3, 21), torch.float32)
    kernel.sum().backward()
    assert all(t.grad.shape == t.shape for t in inputs)


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
row, square = ok[:, None].expand(2, 2, 3, 2), ok[:, None, None].expand(2, 2, 2, 3, 2)


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
        (ValueError, r"axes of rank, expected cp of shape \(heads=2, rank of at least 1, n=3, 2\), "
         r"got \(2, 3, 2\)", lambda: cauchy(ok, ok, row, square, ok, 4)),
        (ValueError, r"expected cp of shape .* got \(2, 0, 3, 2\)",
         lambda: cauchy(ok, row[:, :0], row[:, :0], square[:, :0, :0], ok, 4)),
        (ValueError, r"expected cp of shape .* got \(2, 2, 3, 3\)",
         lambda: cauchy(ok, row[..., :1].repeat(1, 1, 1, 3), row, square, ok, 4)),
        (ValueError, r"beside cp of shape \(2, 2, 3, 2\), expected qb of shape "
         r"\(heads=2, rank=2, n=3, 2\), got \(2, 1, 3, 2\)",
         lambda: cauchy(ok, row, row[:, :1], square, ok, 4)),
        (ValueError, r"qp of shape \(heads=2, rank=2, rank=2, n=3, 2\), got \(2, 2, 3, 2\)",
         lambda: cauchy(ok, row, row, row, ok, 4)),
        (ValueError, r"expected qb of shape .*; did you mean torch.view_as_real\(...\)\?",
         lambda: cauchy(ok, row, torch.view_as_complex(row.contiguous()), square, ok, 4)),
        (ValueError, r"expected cb of shape \(heads, n, 2\), got \(2, 2, 3, 2\)",
         lambda: cauchy(row, row, row, square, ok, 4)),
        (TypeError, "expected qp in float32 or float64, got torch.bfloat16",
         lambda: cauchy(ok, row, row, square.bfloat16(), ok, 4)),
        (TypeError, "cb and cp must share dtype and device, got torch.float32 .* torch.float64",
         lambda: cauchy(ok, row.double(), row, square, ok, 4)),
        (ValueError, "cauchy: qb holds NaN or infinite values",
         lambda: cauchy(ok, row, row * float("nan"), square, ok, 4)),
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
