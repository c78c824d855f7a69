"""The kernels of `linear_scan` against the reference."""

import math

import pytest
import torch

from gonzo.core.ops.linear_scan import linear_scan, triton
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, poisoned_allocations
from gonzo.core.triton_kernels import interpreted_configuration

B, T, D = 2, 19, 5
DECAYS = [(D,), (T, D), (B, T, D), (B, 1, D), (B, T, 1), (T, 1), (B, 1, 1), ()]
COMPLEX = [torch.complex64, torch.complex128]


@pytest.fixture
def short_chunks(monkeypatch):
    """Cut 19 steps into chunks of 8, 8 and 3."""
    monkeypatch.setattr(triton, "_SHORTEST", 4)
    monkeypatch.setattr(triton, "_ALIGNED", 8)
    assert triton._cut(torch.empty(D), torch.empty(B, T, D), reverse=False).chunks == 3


@pytest.fixture
def drawn(device):
    def draw(*shape, dtype=torch.float32, scale=1.0):
        return (scale * torch.randn(shape, dtype=dtype)).to(device)

    return draw


@pytest.fixture
def decays(drawn):
    """Random decays of at most 0.9 in size, so that float16 does not overflow."""

    def draw(*shape, dtype=torch.float32):
        a = drawn(*shape, dtype=torch.complex128 if dtype.is_complex else torch.float64)
        return (0.9 * a / a.abs().clamp(min=1)).to(dtype)

    return draw


def agrees(**inputs):
    compare_backends(linear_scan, inputs, backends=["triton"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", DECAYS, ids=str)
def test_every_way_to_share_a_decay(shape, reverse, short_chunks, decays, drawn):
    start = {"initial": drawn(B, D)} if reverse else {}
    agrees(a=decays(*shape), x=drawn(B, T, D), reverse=reverse, **start)


@pytest.mark.parametrize("shape", [(T, D), (D,)], ids=str)
@pytest.mark.parametrize("dtype", [*TOLERANCE, *COMPLEX])
def test_every_dtype(dtype, shape, short_chunks, decays, drawn):
    x, initial = drawn(B, T, D, dtype=dtype), drawn(B, D, dtype=dtype)
    agrees(a=decays(*shape, dtype=dtype), x=x, initial=initial)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((D,), torch.complex64), ((T, D), torch.float32), ((B, T, 1), torch.float32)],
    ids=str,
)
def test_every_configuration_gives_the_same_bits(shape, dtype, device, short_chunks, decays, drawn):
    if device.type != "cpu":
        pytest.skip("a GPU measures the configurations and chooses")
    leaves = decays(*shape, dtype=dtype).requires_grad_(), drawn(B, T, D).to(dtype).requires_grad_()
    grad, results = drawn(B, T, D, dtype=dtype), []
    for index in range(2):
        with interpreted_configuration(index):
            y = linear_scan(*leaves, backend="triton")
            results.append((y, *torch.autograd.grad(y, leaves, grad)))
    assert all(map(torch.equal, *results))


# Rows and features across the borders of tiles, with and without a decay that the batch shares.
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1, 1, 1), (1, 1, 1)),
        ((3, 1, 2), (2,)),
        ((1, 9, 130), (9, 1)),
        ((11, 9, 18), (9, 18)),
        ((40, 3, 5), (40, 3, 5)),
        ((40, 3, 5), ()),
    ],
    ids=str,
)
def test_odd_sizes(size, shape, decays, drawn):
    batch, _, d = size
    agrees(a=decays(*shape), x=drawn(*size), initial=drawn(batch, d))


def test_a_long_sequence_is_cut_into_chunks(decays, drawn):
    a, x = decays(1, 130, 3), drawn(1, 130, 3)
    assert triton._cut(a, x, reverse=False).chunks == 2
    assert_close(linear_scan(a, x, backend="triton"), linear_scan(a, x, backend="reference"))


@pytest.mark.parametrize("d", [1, 4, 64, 512, 4096])
@pytest.mark.parametrize("time", [1, 2, 63, 64, 1000, 4096, 1 << 20])
def test_chunks_cover_time_and_are_few(time, d):
    x = torch.empty(2, time, d, device="meta")
    walk = triton._cut(x, x, reverse=False)
    assert (walk.chunks - 1) * walk.length < time <= walk.chunks * walk.length
    assert walk.chunks == 1 or walk.length >= max(64, 2 * walk.chunks)


def test_only_the_decay_or_only_the_input_learns(short_chunks, decays, drawn):
    a, x, grad = decays(T, D), drawn(B, T, D), drawn(B, T, D)
    for tensor in (a, x):
        tensor.requires_grad_()
        results = [
            torch.autograd.grad(linear_scan(a, x, backend=name), tensor, grad)[0]
            for name in ("triton", "reference")
        ]
        assert_close(*results)
        tensor.requires_grad_(False)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_without_an_initial_state_the_first_decay_is_not_used(bad, reverse, short_chunks, drawn):
    a, x = torch.rand(B, T, D), drawn(B, T, D)
    a[:, -1 if reverse else 0] = bad
    agrees(a=a.to(x.device), x=x, reverse=reverse)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_decays_whose_product_overflows_leave_a_zero_state_zero(dtype, short_chunks, drawn):
    x = drawn(B, T, D, dtype=dtype)
    x[:, :16] = 0
    a = torch.full_like(x, 1e10)
    a[:, 16:] = 0.5
    assert_close(linear_scan(a, x, backend="triton"), linear_scan(a, x, backend="reference"))


def test_nan_moves_forward_in_time_only(short_chunks, drawn):
    x = drawn(B, T, D)
    x[0, 3, 2] = math.nan
    with poisoned_allocations():
        bad = linear_scan(torch.rand(D).to(x), x, backend="triton").isnan()
    assert bad[0, 3:, 2].all()
    assert bad.sum() == T - 3


def test_strides_do_not_matter(short_chunks, decays, drawn):
    agrees(a=decays(2 * D)[::2].expand(T, D), x=drawn(D, T, B).permute(2, 1, 0))
    z = drawn(B, T, D, dtype=torch.complex64)
    agrees(a=decays(D, dtype=torch.complex64).conj(), x=z.conj())
    a, x = (t.requires_grad_() for t in (decays(D), drawn(B, T, D)))
    y = linear_scan(a, x, backend="triton")
    y.sum().backward()  # its gradient is an expanded scalar
    assert_close(a.grad, torch.autograd.grad(linear_scan(a, x, backend="reference").sum(), a)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_out_is_written_even_where_it_is_an_input(dtype, short_chunks, decays, drawn):
    a, x = decays(D, dtype=dtype), drawn(B, T, D, dtype=dtype)
    y = linear_scan(a, x, backend="triton")
    out = torch.full_like(x, math.nan)
    assert linear_scan(a, x, out=out, backend="triton") is out
    assert linear_scan(a, x, out=x, backend="triton") is x
    assert torch.equal(out, y)
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("shape", "most"),
    [((4096, 512), 1 / 8), ((16, 4096, 1), 1 / 128), ((512,), 1 / 16), ((), 1e-3)],
)
def test_the_gradient_of_a_shared_decay_is_not_expanded(shape, most):
    grad = torch.empty(16, 4096, 512, device="meta")
    walk = triton._cut(torch.empty(shape, device="meta"), grad, reverse=True, sums=True)
    assert walk.decay_gradient(grad).nbytes <= most * grad.nbytes


def test_empty_batch(device):
    a, x = (t.to(device).requires_grad_() for t in (torch.rand(D), torch.randn(0, T, D)))
    y = linear_scan(a, x, torch.zeros(0, D, device=device), backend="triton")
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, T, D)
    assert not a.grad.any()
