"""`long_conv` beside what is used in its place: an FFT of twice the length, or a grouped conv1d."""

import torch
from torch.nn.functional import conv1d, pad

from gonzo.core.bench import TimeRow, main
from gonzo.core.ops.long_conv import long_conv

SIZES = [(64, 64, 784), (2, 64, 2048), (4, 128, 4096), (4, 128, 16384)]


def _fft(u, k):
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * torch.fft.rfft(k, n=n), n=n)[..., : n // 2]


def _conv1d(u, k):
    taps = k.shape[1]
    return conv1d(pad(u, (taps - 1, 0)), k.flip(-1)[:, None], groups=k.shape[0])


def _back(convolve):
    return lambda u, k, grad: torch.autograd.grad(convolve(u, k), (u, k), grad)


def _rows(size, taps, peer, peer_name):
    batch, d, time = size
    assert torch.allclose(
        long_conv(u := torch.randn(1, 2, time), k := torch.randn(2, taps) / taps), peer(u, k),
        atol=1e-4,
    )  # fmt: skip

    def inputs():
        return torch.randn(size), torch.randn(d, taps) / taps

    def with_gradient():
        return *(t.requires_grad_() for t in inputs()), torch.randn(size)

    what = f"B{batch} D{d} T{time}, {taps} taps"
    common = {"peer_name": peer_name, "tests": ["tests/test_long_conv.py"]}
    return [
        TimeRow(
            what=f"long_conv forward {what}", ours=long_conv, peer=peer, setup=inputs, **common
        ),
        TimeRow(
            what=f"long_conv forward+backward {what}",
            ours=_back(long_conv),
            peer=_back(peer),
            setup=with_gradient,
            **common,
        ),
    ]


ROWS = [
    *(row for size in SIZES for row in _rows(size, size[-1], _fft, "torch.fft of size 2T")),
    *(row for taps in (4, 16, 64) for row in _rows((4, 128, 4096), taps, _conv1d, "conv1d")),
]

if __name__ == "__main__":
    raise SystemExit(main(ROWS, package="gonzo-core", script=__file__))
