import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from gonzo.core.fft_sizes import fast_size
from gonzo.core.ops.long_conv import cpu, fourier, long_conv
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, relative_rms

# (time, taps, taps of the future): shorter, equal and longer than the sequence, on both ways.
SIZES = [
    (1, 1, None),
    (1, 4, 3),
    (7, 3, None),
    (7, 20, None),
    (7, 2, 6),
    (7, 9, 9),
    (301, 40, None),
    (301, 1, 300),
    (301, 400, 3),
]


@pytest.fixture(params=["direct", "fourier"])
def way(request, monkeypatch):
    """Run a test once through each way of the cpu backend, whatever the number of taps."""
    monkeypatch.setattr(cpu, "_DIRECT_TAPS", 10**9 if request.param == "direct" else 0)
    return request.param


def drawn(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_is_scipys_convolution(name, way):
    u, k, k_rev = drawn(2, 3, 50), drawn(3, 70), drawn(3, 20)
    causal = torch.from_numpy(fftconvolve(u.numpy(), k.numpy()[None], axes=-1))[..., :50]
    assert_close(long_conv(u, k, backend=name), causal)
    future = torch.from_numpy(fftconvolve(u.flip(-1).numpy(), k_rev.numpy()[None], axes=-1))
    future = torch.cat([torch.zeros(2, 3, 1).double(), future[..., :49]], dim=-1).flip(-1)
    assert_close(long_conv(u, k, k_rev, backend=name), causal + future)


def test_lags_of_the_two_kernels_do_not_meet(way):
    """An impulse shows every lag once: k[0] at the impulse, k_rev[0] one step before it."""
    u = torch.zeros(1, 1, 7)
    u[..., 3] = 1
    k, k_rev = torch.tensor([[1.0, 2, 3]]), torch.tensor([[10.0, 20, 30, 40]])
    y = long_conv(u, k, k_rev)
    assert torch.allclose(y[0, 0], torch.tensor([30.0, 20, 10, 1, 2, 3, 0]), atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_backends_agree(size, dtype, way):
    time, taps, future = size
    inputs = {"u": drawn(2, 3, time, dtype=dtype), "k": drawn(3, taps, dtype=dtype)}
    if future:
        inputs["k_rev"] = drawn(3, future, dtype=dtype)
    compare_backends(long_conv, inputs, backends=["reference", "cpu"])


def test_blocks_of_channels_and_batch_cover_everything(monkeypatch):
    u, k = drawn(5, 7, 40), drawn(7, 40)
    for rows in (1, 3, 5, 11, 1000):
        monkeypatch.setattr(fourier, "_ROWS", rows)
        monkeypatch.setattr(fourier, "_BLOCK", 1)
        compare_backends(long_conv, {"u": u, "k": k}, backends=["cpu"])


def test_long_sequences_in_float32():
    u, k = drawn(2, 3, 16384, dtype=torch.float32), drawn(3, 16384, dtype=torch.float32)
    assert relative_rms(long_conv(u, k), long_conv(u.double(), k.double())) < 1e-6


def test_taps_out_of_reach_have_gradient_zero(way):
    u, k, k_rev = drawn(2, 3, 5), drawn(3, 9).requires_grad_(), drawn(3, 9).requires_grad_()
    long_conv(u, k, k_rev).sum().backward()
    assert not k.grad[:, 5:].any()
    assert not k_rev.grad[:, 4:].any()


def test_gradcheck(way):
    inputs = [drawn(*s).requires_grad_() for s in ((2, 2, 5), (2, 4), (2, 3))]
    assert torch.autograd.gradcheck(long_conv, inputs)
    assert torch.autograd.gradcheck(long_conv, inputs[:2])


def test_opcheck():
    u, taps = drawn(2, 3, 50).requires_grad_(), drawn(3, 50).requires_grad_()
    op = torch.ops.gonzo
    torch.library.opcheck(op.long_conv.default, (u, taps, 0, ""))
    torch.library.opcheck(op.long_conv.default, (u, taps, 7, ""))
    torch.library.opcheck(
        op.long_conv_backward.default, (u.detach(), u.detach(), taps.detach(), 7, "")
    )


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiles_as_one_graph():
    compiled = torch.compile(long_conv, fullgraph=True)
    inputs = [drawn(*s).requires_grad_() for s in ((2, 3, 50), (3, 60), (3, 5))]
    expected = torch.autograd.grad(long_conv(*inputs).square().sum(), inputs)
    actual = torch.autograd.grad(compiled(*inputs).square().sum(), inputs)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


def test_empty_batch_and_no_channels():
    u, k = drawn(0, 3, 9).requires_grad_(), drawn(3, 50).requires_grad_()
    y = long_conv(u, k)
    y.sum().backward()
    assert y.shape == u.grad.shape == (0, 3, 9)
    assert not k.grad.any()
    assert long_conv(drawn(2, 0, 9), drawn(0, 4)).shape == (2, 0, 9)


def test_strides_do_not_matter(way):
    u, k = drawn(2, 40, 3).mT, drawn(50, 3).T[:, ::2]
    y = long_conv(u.requires_grad_(), k)
    assert_close(y, long_conv(u.contiguous(), k.contiguous()))
    y.sum().backward()  # its gradient is an expanded scalar
    assert u.grad.isfinite().all()
    assert y.stride() == u.grad.stride() == u.stride()  # (batch, time, d) goes in and comes out


def test_autocast_does_not_reach_the_sums(way):
    u, k = drawn(2, 3, 90, dtype=torch.float32), drawn(3, 90, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = long_conv(u, k)
        mixed = long_conv(u.bfloat16(), k)
        half = long_conv(u.bfloat16(), k.bfloat16())
    assert torch.equal(y, long_conv(u, k))
    assert mixed.dtype == torch.float32
    assert_close(mixed, long_conv(u.bfloat16().double(), k.double()))
    assert half.dtype == torch.bfloat16


def test_results_do_not_depend_on_the_number_of_threads():
    u = drawn(3, 5, 100, dtype=torch.float32)
    for taps in (4, 100):
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            k = torch.linspace(-1, 1, 5 * taps).view(5, taps).requires_grad_()
            y = long_conv(u, k)
            y.backward(u)
            results.append((y.detach(), k.grad))
        for y, grad in results[1:]:
            assert torch.equal(y, results[0][0])
            assert torch.equal(grad, results[0][1])


@given(
    time=st.integers(1, 60),
    taps=st.integers(1, 80),
    ahead=st.integers(1, 80),
    change=st.integers(0, 59),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_laws(time, taps, ahead, change, seed):
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, 2, 3, time, generator=generator, dtype=torch.float64)
    k = torch.randn(3, taps, generator=generator, dtype=torch.float64)
    k_rev = torch.randn(3, ahead, generator=generator, dtype=torch.float64)
    y = long_conv(u, k, k_rev)
    both = 2 * y - 3 * long_conv(v, k, k_rev)
    torch.testing.assert_close(long_conv(2 * u - 3 * v, k, k_rev), both, rtol=0, atol=1e-10)
    change %= time
    changed = torch.cat([u[..., :change], v[..., change:]], dim=-1)
    kept, other = (long_conv(s, k)[..., :change] for s in (u, changed))
    torch.testing.assert_close(other, kept, rtol=0, atol=1e-10)
    # Time backwards exchanges the kernels, but for lag 0, which belongs to the causal one.
    ahead_only = torch.cat([torch.zeros(3, 1).double(), k_rev], dim=1)
    mirrored = long_conv(u.flip(-1), ahead_only, k[:, 1:] if taps > 1 else None)
    mirrored = mirrored.flip(-1) + k[:, :1] * u
    torch.testing.assert_close(mirrored, y, rtol=0, atol=1e-10)


def test_fast_sizes_are_products_of_small_primes_just_above():
    for at_least in range(1, 3000):
        size = fast_size(at_least)
        assert at_least <= size <= max(2, 1.34 * at_least)
        assert size % 2 == 0
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1


u_ok, k_ok = torch.zeros(2, 3, 9), torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (ValueError, r"expected u of shape \(batch, d, time\), got \(3, 9\)",
         lambda: long_conv(u_ok[0], k_ok)),
        (ValueError, "u has length 0", lambda: long_conv(u_ok[..., :0], k_ok)),
        (ValueError, r"expected k of shape \(d, taps\) with d = 9 .* did you mean u.transpose",
         lambda: long_conv(u_ok.mT, k_ok)),
        (ValueError, r"at least one tap, got \(3, 0\)", lambda: long_conv(u_ok, k_ok[:, :0])),
        (ValueError, r"expected k_rev of shape \(d, taps\)",
         lambda: long_conv(u_ok, k_ok, k_ok[:2])),
        (TypeError, "expected u to be real floating point, got torch.complex64",
         lambda: long_conv(u_ok.cfloat(), k_ok)),
        (TypeError, "expected k to be real floating point, got torch.int64",
         lambda: long_conv(u_ok, k_ok.long())),
        (ValueError, "u is on cpu, but k on meta", lambda: long_conv(u_ok, k_ok.to("meta"))),
        (ValueError, "unknown backend 'fft'; expected one of reference, cpu, triton",
         lambda: long_conv(u_ok, k_ok, backend="fft")),
    ],
)  # fmt: skip
def test_bad_input_is_explained(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_second_derivatives_are_refused():
    u = drawn(1, 3, 9).requires_grad_()
    y = long_conv(u, drawn(3, 9))
    (grad,) = torch.autograd.grad(y.square().sum(), u, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        grad.sum().backward()
