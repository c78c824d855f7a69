"""Convolution through real FFTs of a fast length, a block of channels at a time.

Blocks keep every temporary in cache and out of fresh memory; they are no smaller because each call
prepares the plan of the transform again, which costs as much as a dozen transforms.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from gonzo.core.fft_sizes import fast_size

_BLOCK = 1 << 19  # real numbers in one block of transforms
_ROWS = 32  # transforms in one block at least


def forward(u: Tensor, taps: Tensor, ahead: int) -> Tensor:
    """With the taps laid out from 0 on, y[t] is entry t + ahead of the convolution."""
    time = u.shape[2]
    n = transform_size(time, taps.shape[1], ahead)
    y = torch.empty_like(u)
    for channels, batches in _blocks(u, n):
        kernel = torch.fft.rfft(taps[channels], n=n)
        for some in batches:
            spectrum = torch.fft.rfft(u[some, channels], n=n).mul_(kernel)
            y[some, channels] = torch.fft.irfft(spectrum, n=n)[..., ahead : ahead + time]
    return y


def backward(grad: Tensor, u: Tensor, taps: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """Correlations of the gradient, which starts at entry `ahead`, with the taps and with u.

    Spectra are computed again rather than kept: they are larger than the inputs.
    """
    time, lags = u.shape[2], taps.shape[1]
    n = transform_size(time, lags, ahead)
    du = torch.empty_like(u)
    dtaps = torch.empty(taps.shape, dtype=taps.dtype)
    for channels, batches in _blocks(u, n):
        kernel = torch.fft.rfft(taps[channels], n=n).conj_physical_()
        total = torch.zeros_like(kernel)
        for some in batches:
            placed = pad(grad[some, channels], (ahead, n - ahead - time))
            gradient = torch.fft.rfft(placed)
            spectrum = torch.fft.rfft(u[some, channels], n=n).conj_physical_()
            total += spectrum.mul_(gradient).sum(0)
            du[some, channels] = torch.fft.irfft(gradient.mul_(kernel), n=n)[..., :time]
        dtaps[channels] = torch.fft.irfft(total, n=n)[..., :lags]
    return du, dtaps


def transform_size(time: int, lags: int, ahead: int) -> int:
    """A fast length at which what wraps around falls outside the entries that are read.

    The furthest past lag is ``lags - ahead - 1`` and the furthest future one ``ahead``.
    """
    return fast_size(time + max(lags - ahead - 1, ahead))


def _blocks(u: Tensor, n: int) -> Iterator[tuple[slice, list[slice]]]:
    """Blocks of channels, each with the blocks of the batch to go through."""
    batch, d, _ = u.shape
    rows = max(_ROWS, _BLOCK // n)
    channels, some = max(1, rows // batch), min(batch, rows)
    for start in range(0, d, channels):
        yield (
            slice(start, min(start + channels, d)),
            [slice(b, min(b + some, batch)) for b in range(0, batch, some)],
        )
