import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from gonzo.core.backends import backend
from gonzo.core.ops.linear_scan import linear_scan, linear_scan_pairs
from gonzo.core.testing import (
    TOLERANCE,
    assert_close,
    compare_backends,
    poisoned_allocations,
)

B, T, D = 2, 7, 5
DECAYS = [(D,), (T, D), (B, T, D), (B, 1, D), (B, T, 1), (1, T, 1), (T, 1), (1,), ()]


def drawn(*shape, dtype=torch.float64, scale=1.0):
    return scale * torch.randn(shape, dtype=dtype)


def test_constant_decay_is_a_geometric_sum():
    a = torch.tensor([0.5, -0.9, 1.0], dtype=torch.float64)
    y = linear_scan(a, torch.ones(1, 20, 3, dtype=torch.float64), backend="reference")
    t = torch.arange(1, 21, dtype=torch.float64)[:, None]
    expected = torch.where(a == 1, t, (1 - a**t) / (1 - a + (a == 1)))
    assert_close(y[0], expected)


def test_reference_is_scipys_recursive_filter():
    x = drawn(3, 50, 1)
    expected = lfilter([1.0], [1.0, -0.8], x[..., 0].numpy(), axis=1)
    y = linear_scan(torch.tensor(0.8, dtype=torch.float64), x, backend="reference")
    assert_close(y[..., 0], torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", [*TOLERANCE, torch.complex64, torch.complex128])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", DECAYS, ids=str)
def test_backends_agree(shape, reverse, dtype):
    inputs = {"a": drawn(*shape, dtype=dtype, scale=0.7), "x": drawn(B, T, D, dtype=dtype)}
    for more in ({}, {"initial": drawn(B, D, dtype=dtype)}):
        compare_backends(
            linear_scan, {**inputs, **more, "reverse": reverse}, backends=["reference", "cpu"]
        )


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 1, 40), (3, 1, 2), (1, 301, 33), (2, 300, 700)])
@pytest.mark.parametrize("decay", ["full", "features", "steps"])
def test_backends_agree_at_odd_sizes(size, decay):
    batch, time, d = size
    shape = {"full": size, "features": (d,), "steps": (time, 1)}[decay]
    inputs = {
        "a": torch.rand(shape),
        "x": drawn(*size, dtype=torch.float32),
        "initial": drawn(batch, d, dtype=torch.float32),
    }
    compare_backends(linear_scan, inputs, backends=["cpu"])


def test_float32_states_are_those_of_the_plain_loop_to_the_last_bit():
    a, x = torch.rand(3, 40, 17), torch.randn(3, 40, 17)
    assert torch.equal(linear_scan(a, x), linear_scan(a, x, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(2, 3, 2), (2,), (3, 1)], ids=str)
def test_gradcheck(shape, dtype):
    inputs = [drawn(*s, dtype=dtype).requires_grad_() for s in (shape, (2, 3, 2), (2, 2))]
    for reverse in (False, True):
        assert torch.autograd.gradcheck(
            lambda *i, reverse=reverse: linear_scan(*i, reverse=reverse), inputs
        )


def test_a_real_decay_of_complex_inputs():
    a, x = torch.rand(D).requires_grad_(), drawn(B, T, D, dtype=torch.complex64)
    y = linear_scan(a, x)
    y.abs().sum().backward()
    assert y.dtype == torch.complex64
    assert a.grad.dtype == torch.float32
    assert_close(y, torch.complex(linear_scan(a, x.real), linear_scan(a, x.imag)))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", DECAYS, ids=str)
def test_pairs_are_complex_numbers(shape, reverse, dtype):
    numbers = [drawn(*s, dtype=dtype, scale=0.7) for s in (shape, (B, T, D), (B, D))]
    for count in (2, 3):
        leaves = [t.clone().requires_grad_() for t in numbers[:count]]
        pairs = [torch.view_as_real(t).clone().requires_grad_() for t in numbers[:count]]
        y, actual = (
            linear_scan(*leaves, reverse=reverse),
            linear_scan_pairs(*pairs, reverse=reverse),
        )
        assert actual.dtype == dtype.to_real()
        assert torch.equal(torch.view_as_complex(actual), y)
        grad = torch.randn_like(y)
        expected = torch.autograd.grad(y, leaves, grad)
        for a, e in zip(
            torch.autograd.grad(actual, pairs, torch.view_as_real(grad)), expected, strict=True
        ):
            assert torch.equal(torch.view_as_complex(a), e)


def test_backends_agree_on_pairs():
    inputs = {
        "a": torch.rand(D, 2) / 2,
        "x": torch.randn(B, T, D, 2),
        "initial": torch.rand(B, D, 2),
    }
    compare_backends(linear_scan_pairs, inputs, backends=["cpu", None])


def test_pairs_promote_and_may_lie_apart():
    a, x = drawn(D, 2, scale=0.5), torch.randn(T, B, 2, D).permute(1, 0, 3, 2)
    y = linear_scan_pairs(a, x)
    assert y.dtype == torch.float64
    assert_close(y, linear_scan_pairs(a, x.double().contiguous()))


@pytest.mark.parametrize("pairs", [False, True])
def test_opcheck(pairs):
    last = (2,) if pairs else ()
    a, x, initial, out = (
        drawn(*s, *last, dtype=torch.float32) for s in ((D,), (B, T, D), (B, D), (B, T, D))
    )
    grads = [t.clone().requires_grad_() for t in (a, x, initial)]
    op = torch.ops.gonzo
    torch.library.opcheck(op.linear_scan.default, (*grads, False, pairs, ""))
    torch.library.opcheck(op.linear_scan.default, (*grads[:2], None, True, pairs, ""))
    torch.library.opcheck(op.linear_scan_out.default, (a, x, initial, False, pairs, "", out))
    for name in ("reference", "cpu"):
        torch.library.opcheck(
            op.linear_scan_backward.default, (x, a, x, initial, False, pairs, name)
        )


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph_that_obeys_the_context_it_is_called_in(monkeypatch):
    from gonzo.core.ops.linear_scan import reference

    compiled = torch.compile(linear_scan, fullgraph=True)
    a, x = torch.rand(D, requires_grad=True), torch.randn(B, T, D, requires_grad=True)
    expected = torch.autograd.grad(linear_scan(a, x).square().sum(), (a, x))
    for actual, grad in zip(
        torch.autograd.grad(compiled(a, x).square().sum(), (a, x)), expected, strict=True
    ):
        assert_close(actual, grad)
    calls = []
    for name in ("forward", "backward"):
        function = getattr(reference, name)
        monkeypatch.setattr(
            reference, name, lambda *i, n=name, f=function, **k: (calls.append(n), f(*i, **k))[1]
        )
    with backend("reference"):
        torch.autograd.grad(compiled(a, x).square().sum(), (a, x))
    assert calls == ["forward", "backward"]


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_pairs_compile_as_one_graph():
    compiled = torch.compile(linear_scan_pairs, fullgraph=True)
    shapes = ((D, 2), (B, T, D, 2), (B, D, 2))
    inputs = [drawn(*s, dtype=torch.float32, scale=0.5).requires_grad_() for s in shapes]
    y, actual = linear_scan_pairs(*inputs), compiled(*inputs)
    assert torch.equal(actual, y)
    expected = torch.autograd.grad(y.square().sum(), inputs)
    for a, e in zip(torch.autograd.grad(actual.square().sum(), inputs), expected, strict=True):
        assert_close(a, e)


def test_the_backward_has_the_backend_of_the_forward(monkeypatch):
    from gonzo.core.ops.linear_scan import cpu

    x = torch.randn(B, T, D, requires_grad=True)
    with backend("reference"):
        y = linear_scan(torch.rand(D), x)
    monkeypatch.setattr(cpu, "backward", None)
    y.sum().backward()


def test_empty_batch():
    a, x = torch.rand(D, requires_grad=True), torch.randn(0, T, D, requires_grad=True)
    y = linear_scan(a, x, torch.zeros(0, D))
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, T, D)
    assert torch.equal(a.grad, torch.zeros(D))


def test_strides_do_not_matter():
    x = drawn(D, T, B).permute(2, 1, 0)
    a = drawn(2 * D)[::2].expand(T, D)
    assert_close(linear_scan(a, x), linear_scan(a.contiguous(), x.contiguous()))
    z = drawn(B, T, D, dtype=torch.complex128)
    assert_close(linear_scan(a, z.conj()), linear_scan(a, z.conj().resolve_conj()))
    y = linear_scan(torch.rand(D, dtype=torch.float64).requires_grad_(), x)
    y.sum().backward()  # its gradient is an expanded scalar


def test_states_stay_float32_under_autocast():
    a, x = torch.rand(D), torch.randn(B, T, D)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_scan(a, x.bfloat16())
        assert linear_scan(a.bfloat16(), x.bfloat16()).dtype == torch.bfloat16
    assert y.dtype == torch.float32
    assert_close(y, linear_scan(a, x.bfloat16().float()))


def test_a_broadcast_decay_is_not_expanded():
    a, x = torch.rand(64, requires_grad=True), torch.randn(8, 256, 64, requires_grad=True)
    linear_scan(a, x).sum().backward()
    cotangent = torch.ones_like(x)
    with torch.profiler.profile(profile_memory=True) as profile:
        linear_scan(a, x).backward(cotangent)
    taken = [e.self_cpu_memory_usage for e in profile.events()]
    # The states and the gradient of x; an expanded decay or its gradient would be half again.
    assert 2 * x.nbytes <= sum(size for size in taken if size > 0) <= 2.1 * x.nbytes


def test_out_is_written_and_returned():
    for dtype in (torch.float32, torch.bfloat16, torch.complex64):
        a, x = drawn(D, dtype=dtype), drawn(B, T, D, dtype=dtype)
        out = torch.full_like(x, float("nan"))
        assert linear_scan(a, x, out=out) is out
        assert torch.equal(out, linear_scan(a, x))


def test_results_do_not_depend_on_the_number_of_threads():
    x = torch.randn(3, 90, 100)
    for a in (torch.rand(100), torch.rand(90, 1), torch.rand(3, 90, 1), torch.rand(3, 90, 100)):
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = a.clone().requires_grad_()
            y = linear_scan(leaf, x)
            y.backward(x)
            results.append((y.detach(), leaf.grad))
        for y, grad in results[1:]:
            assert torch.equal(y, results[0][0])
            assert torch.equal(grad, results[0][1])


sizes = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))


@given(size=sizes, split=st.integers(0, 20), seed=st.integers(0, 99), reverse=st.booleans())
@settings(max_examples=25, deadline=None)
def test_laws(size, split, seed, reverse):
    generator = torch.Generator().manual_seed(seed)
    batch, time, d = size
    a, x, z = (torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(3))
    initial = torch.rand(batch, d, generator=generator, dtype=torch.float64)
    y = linear_scan(a, x, initial, reverse=reverse)
    assert_close(
        linear_scan(a, 2 * x - 3 * z, -initial, reverse=reverse),
        2 * y - 3 * linear_scan(a, z, initial, reverse=reverse),
        name="linearity",
    )
    flipped = linear_scan(a.flip(1), x.flip(1), initial, reverse=not reverse).flip(1)
    assert torch.equal(flipped, y)
    split %= time
    if split and not reverse:
        first = linear_scan(a[:, :split], x[:, :split], initial)
        second = linear_scan(a[:, split:], x[:, split:], first[:, -1])
        assert torch.equal(torch.cat([first, second], dim=1), y)
    changed = torch.cat([x[:, :split], z[:, split:]], dim=1)
    other = linear_scan(a, changed, initial)
    assert torch.equal(other[:, :split], linear_scan(a, x, initial)[:, :split])


def test_nan_moves_forward_in_time_only():
    x = torch.randn(B, T, D)
    x[0, 3, 2] = float("nan")
    with poisoned_allocations():
        for name in ("reference", "cpu"):
            bad = linear_scan(torch.rand(D), x, backend=name).isnan()
            assert bad[0, 3:, 2].all()
            assert bad.sum() == T - 3


x_ok = torch.zeros(B, T, D)
z_ok = torch.zeros(B, T, D, 2)


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"expected x of shape \(batch, time, d\), got \(7, 5\)",
         lambda: linear_scan(torch.ones(D), x_ok[0])),
        (ValueError, "x has length 0", lambda: linear_scan(torch.ones(D), x_ok[:, :0])),
        (ValueError, r"got \(2, 7\); did you mean a.unsqueeze\(-1\)",
         lambda: linear_scan(torch.ones(B, T), x_ok)),
        (ValueError, r"got \(2, 5\); did you mean a.unsqueeze\(1\)",
         lambda: linear_scan(torch.ones(B, D), x_ok)),
        (ValueError, r"did you mean x.transpose\(1, 2\)",
         lambda: linear_scan(torch.ones(D), x_ok.mT)),
        (ValueError, r"expected initial of shape \(batch, d\) = \(2, 5\), got \(5,\)",
         lambda: linear_scan(torch.ones(D), x_ok, torch.zeros(D))),
        (TypeError, "expected x to be floating point or complex, got torch.int64; use x.float",
         lambda: linear_scan(torch.ones(D), x_ok.long())),
        (ValueError, "x is on cpu, but a on meta",
         lambda: linear_scan(torch.ones(D, device="meta"), x_ok)),
        (ValueError, "unknown backend 'cuda'; expected one of reference, cpu, triton",
         lambda: linear_scan(torch.ones(D), x_ok, backend="cuda")),
        (ValueError, "unknown backend 'cuda'",
         lambda: linear_scan(torch.ones(D), x_ok[:0], backend="cuda")),
        (ValueError, "out= cannot be used where a gradient is recorded",
         lambda: linear_scan(torch.ones(D, requires_grad=True), x_ok, out=x_ok.clone())),
        (ValueError, r"expected a contiguous out of shape \(2, 7, 5\), got \(7, 5\)",
         lambda: linear_scan(torch.ones(D), x_ok, out=x_ok[0].clone())),
        (ValueError, "that is not contiguous",
         lambda: linear_scan(torch.ones(D), x_ok, out=torch.zeros(B, D, T).mT)),
        (TypeError, "expected out of dtype torch.float32, got torch.float64",
         lambda: linear_scan(torch.ones(D), x_ok, out=x_ok.double())),
        (ValueError, r"pairs: expected x of shape \(batch, time, d, 2\), got \(7, 5, 2\)",
         lambda: linear_scan_pairs(z_ok[0, 0], z_ok[0])),
        (ValueError, r"pairs: expected x to end in an axis of 2, .* got shape \(2, 7, 5\)",
         lambda: linear_scan_pairs(z_ok[0, 0], x_ok)),
        (ValueError, r"expected a to end in an axis of 2, .* got shape \(\)",
         lambda: linear_scan_pairs(torch.ones(()), z_ok)),
        (ValueError, "linear_scan_pairs: x has length 0",
         lambda: linear_scan_pairs(z_ok[0, 0], z_ok[:, :0])),
        (ValueError, r"x of shape \(2, 7, 5, 2\), got \(2, 7, 2\); did you mean a.unsqueeze\(-2\)",
         lambda: linear_scan_pairs(z_ok[:, :, 0], z_ok)),
        (ValueError, r"got \(2, 5, 2\); did you mean a.unsqueeze\(1\)",
         lambda: linear_scan_pairs(z_ok[:, 0], z_ok)),
        (ValueError, r"expected initial of shape \(batch, d, 2\) = \(2, 5, 2\), got \(5, 2\)",
         lambda: linear_scan_pairs(z_ok[0, 0], z_ok, z_ok[0, 0])),
        (TypeError, r"expected x in float32 .* got torch.complex64; use torch.view_as_real\(x\)",
         lambda: linear_scan_pairs(z_ok[0, 0], torch.view_as_complex(z_ok))),
        (TypeError, r"expected a in float32 or float64, got torch.bfloat16; use a.float\(\)",
         lambda: linear_scan_pairs(z_ok[0, 0].bfloat16(), z_ok)),
        (ValueError, "linear_scan_pairs: x is on cpu, but a on meta",
         lambda: linear_scan_pairs(z_ok[0, 0].to("meta"), z_ok)),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    x = torch.randn(B, T, D, requires_grad=True)
    y = linear_scan(torch.rand(D, requires_grad=True), x)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
