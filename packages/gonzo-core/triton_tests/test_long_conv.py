"""The kernels of `long_conv` against the reference."""

import pytest
import torch

from gonzo.core.ops.long_conv import long_conv, triton, triton_fourier
from gonzo.core.testing import TOLERANCE, assert_close, compare_backends, relative_rms

# (batch, d, time, taps, taps of the future): fewer, as many and more than steps; transforms of
# 1, 3 and more points; channels and times across the borders of tiles.
SIZES = [
    (2, 3, 1, 1, None),
    (2, 3, 1, 4, 3),
    (1, 2, 5, 2, None),
    (2, 3, 7, 20, None),
    (3, 1, 7, 9, 9),
    (1, 37, 70, 5, 3),
    (2, 2, 301, 40, None),
    (1, 2, 301, 1, 70),
    (1, 2, 600, 20, 7),
]


@pytest.fixture(params=["direct", "fourier"])
def way(request, monkeypatch):
    """Run a test once through each kind of kernel, whatever the number of taps."""
    monkeypatch.setattr(triton, "_DIRECT_TAPS", 10**9 if request.param == "direct" else 0)
    return request.param


@pytest.fixture
def drawn(device):
    def draw(*shape, dtype=torch.float64):
        return torch.randn(shape, dtype=torch.float64).to(device, dtype)

    return draw


def agrees(u, k, k_rev=None):
    inputs = {"u": u, "k": k} | ({} if k_rev is None else {"k_rev": k_rev})
    compare_backends(long_conv, inputs, backends=["triton"])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_agrees_with_the_reference(size, way, drawn):
    batch, d, time, taps, future = size
    agrees(drawn(batch, d, time), drawn(d, taps), drawn(d, future) if future else None)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_dtype(dtype, way, drawn):
    agrees(drawn(2, 3, 45, dtype=dtype), drawn(3, 20, dtype=dtype), drawn(3, 5, dtype=dtype))


@pytest.mark.parametrize("transposed", [False, True])
def test_every_configuration(configuration, transposed, drawn):
    """Tiles with and without masks, along time and along channels, more channels than one tile."""
    for d, time in ((2, 1100), (66, 40)):
        u = drawn(1, time, d, dtype=torch.float32).mT if transposed else drawn(1, d, time).float()
        agrees(u, drawn(d, 5, dtype=torch.float32), drawn(d, 2, dtype=torch.float32))


def test_strides(way, drawn):
    """Views, read in place, and a gradient that is an expanded scalar."""
    for u, k in (
        (drawn(2, 40, 3).mT, drawn(50, 3).T[:, ::2]),
        (drawn(2, 4, 81)[:, ::2, ::2], drawn(2, 12)),
        (drawn(1, 1, 33).expand(3, 2, 33), drawn(2, 12)),
    ):
        agrees(u, k)
        leaf = u.detach().requires_grad_()
        y = long_conv(leaf, k, backend="triton")
        y.sum().backward()
        ones = torch.autograd.grad(long_conv(leaf, k, backend="reference").sum(), leaf)[0]
        assert_close(leaf.grad, ones)
        assert y.stride() == torch.empty_like(u).stride()


def test_kernels_write_the_layout_of_the_input(way, drawn):
    """So that what registers the op need not copy."""
    u, k = drawn(2, 40, 3).mT, drawn(3, 12)
    assert triton.forward(u, k, 3).stride() == u.stride()
    du, dtaps = triton.backward(u.contiguous(), u, k, 3)
    assert du.stride() == u.stride()
    assert dtaps.is_contiguous()


def test_blocks_of_channels_cover_everything(monkeypatch, drawn):
    """Of one shape each, the last one overlapping, whatever memory is allowed."""
    u, k = drawn(3, 7, 40), drawn(7, 40)
    for numbers in (1, 3 * 80 * 3, 3 * 80 * 4, 3 * 80 * 6):
        monkeypatch.setattr(triton_fourier, "_NUMBERS", numbers)
        blocks = list(triton_fourier._blocks(u, 80))
        assert {c for some in blocks for c in range(7)[some]} == set(range(7))
        assert len({some.stop - some.start for some in blocks}) == 1
        assert all((s.stop - s.start) * 3 * 80 <= max(numbers, 3 * 80) for s in blocks)
    for numbers in (1, 3 * 80 * 3):
        monkeypatch.setattr(triton_fourier, "_NUMBERS", numbers)
        monkeypatch.setattr(triton, "_DIRECT_TAPS", 0)
        agrees(u[:, :, :9], k)


@pytest.mark.parametrize("programs", [1, 10**6])
def test_pieces_of_the_batch_add_up(programs, monkeypatch, way, drawn):
    """One program sums over all of it, or as many as there are sequences."""
    for module in (triton_fourier, triton.triton_direct):
        monkeypatch.setattr(module, "_PROGRAMS", programs)
    agrees(drawn(5, 2, 70), drawn(2, 9))


def test_the_number_of_taps_decides(monkeypatch, drawn):
    used = []
    for module in (triton.triton_direct, triton_fourier):
        monkeypatch.setattr(module, "forward", lambda *_, name=module.__name__: used.append(name))
    for taps in (triton._DIRECT_TAPS, triton._DIRECT_TAPS + 1):
        triton.forward(drawn(1, 1, 200), drawn(1, taps), 0)
    assert [name.rpartition("_")[2] for name in used] == ["direct", "fourier"]


def test_results_repeat_to_the_bit(way, drawn):
    u, k = drawn(4, 3, 70, dtype=torch.float32), drawn(3, 20, dtype=torch.float32)
    first, second = ((triton.forward(u, k, 4), *triton.backward(u, u, k, 4)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_long_sequences_in_float32(drawn):
    u, k = drawn(1, 2, 16384, dtype=torch.float32), drawn(2, 16384, dtype=torch.float32)
    exact = triton_fourier.forward(u.double(), k.double(), 0)
    assert relative_rms(triton.forward(u, k, 0), exact) < 1e-6


def test_no_batch_and_no_channels(drawn):
    """The caller's job: no kernel is launched."""
    u, k = drawn(0, 3, 9).requires_grad_(), drawn(3, 50).requires_grad_()
    y = long_conv(u, k, backend="triton")
    y.sum().backward()
    assert y.shape == u.grad.shape == (0, 3, 9)
    assert not k.grad.any()
    assert long_conv(drawn(2, 0, 9), drawn(0, 4), backend="triton").shape == (2, 0, 9)


def test_autocast_does_not_reach_the_sums(way, drawn):
    u, k = drawn(2, 3, 90, dtype=torch.float32), drawn(3, 90, dtype=torch.float32)
    with torch.autocast(u.device.type, torch.bfloat16):
        y = long_conv(u, k, backend="triton")
    assert torch.equal(y, long_conv(u, k, backend="triton"))
