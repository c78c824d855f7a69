"""`long_conv` beside what is used in its place: an FFT of twice the length, or a grouped conv1d."""

import torch
from torch.nn.functional import conv1d, pad

from gonzo.core.bench import TimeRow, main
from gonzo.core.ops.long_conv import long_conv

SIZES = [(64, 64, 784), (2, 64, 2048), (4, 128, 4096), (4, 128, 16384)]


def fft(u, k):
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * torch.fft.rfft(k, n=n), n=n)[..., : n // 2]


def depthwise(u, k):
    taps = k.shape[1]
    return conv1d(pad(u, (taps - 1, 0)), k.flip(-1)[:, None], groups=k.shape[0])


PEERS = {fft: "torch.fft of size 2T", depthwise: "conv1d"}


def and_back(convolve):
    return lambda u, k, grad: torch.autograd.grad(convolve(u, k), (u, k), grad)


def inputs(size, taps, dtype=torch.float32):
    return torch.randn(size, dtype=dtype), torch.randn(size[1], taps, dtype=dtype) / taps


def with_gradient(size, taps, dtype=torch.float32):
    leaves = (t.requires_grad_() for t in inputs(size, taps, dtype))
    return *leaves, torch.randn(size, dtype=dtype)


def rows(size, taps, peer, dtype=torch.float32):
    """Forward and forward+backward; the peer is the same function, which is checked first."""
    batch, d, time = size
    assert torch.allclose(
        long_conv(u := torch.randn(1, 2, time), k := torch.randn(2, taps) / taps), peer(u, k),
        atol=1e-4,
    )  # fmt: skip
    kind = "" if dtype == torch.float32 else f", {str(dtype).removeprefix('torch.')}"
    what = f"B{batch} D{d} T{time}, {taps} taps{kind}"
    common = {"peer_name": PEERS[peer], "tests": ["tests/test_long_conv.py"]}
    return [
        TimeRow(
            what=f"long_conv forward {what}",
            ours=long_conv,
            peer=peer,
            setup=lambda: inputs(size, taps, dtype),
            **common,
        ),
        TimeRow(
            what=f"long_conv forward+backward {what}",
            ours=and_back(long_conv),
            peer=and_back(peer),
            setup=lambda: with_gradient(size, taps, dtype),
            **common,
        ),
    ]


ROWS = [
    *(row for size in SIZES for row in rows(size, size[-1], fft)),
    *(row for taps in (4, 16, 64) for row in rows((4, 128, 4096), taps, depthwise)),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
