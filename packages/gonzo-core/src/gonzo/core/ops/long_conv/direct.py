"""Short kernels: shifted multiply-adds over a piece of the sequence that stays in cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

_PIECE = 512  # steps: the piece of y and that of u fit the first-level cache together


def forward(u: Tensor, taps: Tensor, ahead: int) -> Tensor:
    """y, (B, D, T), where tap i has lag ``i - ahead``."""
    batch, d, time = u.shape
    y = torch.empty(u.shape, dtype=u.dtype)
    run_rows(batch * d, _convolve, _flat(u), _flat(taps), _flat(y), d, time, ahead)
    return y


def backward(grad: Tensor, u: Tensor, taps: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """The gradient of u is a convolution with the taps reversed: lag s becomes −s."""
    d, lags = taps.shape
    du = forward(grad, taps.flip(1), lags - 1 - ahead)
    dtaps = torch.zeros(taps.shape, dtype=taps.dtype)
    run_rows(d, _correlate, _flat(u), _flat(grad), _flat(dtaps), d, u.shape[2], ahead)
    return du, dtaps


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().view(-1).numpy()


# Offsets are unsigned, which spares Numba the wrap-around of negative indices; a negative lag is
# subtracted modulo 2^64, which is what it should be.
@kernel
def _convolve(start, stop, u, taps, y, d, time, ahead):
    lags = taps.size // d
    for row in range(start, stop):
        base = np.uint64(row * time)
        for low in range(0, time, _PIECE):
            high = min(low + _PIECE, time)
            for t in range(np.uint64(low), np.uint64(high)):
                y[base + t] = 0
            for i in range(lags):
                lag = i - ahead
                weight = taps[row % d * lags + i]
                then = base - np.uint64(lag)
                for t in range(np.uint64(max(low, lag)), np.uint64(min(high, time + lag))):
                    y[base + t] += weight * u[then + t]


# "reassoc" lets each sum over time run in vector lanes; it permits nothing about NaN or infinity.
@kernel(fastmath={"reassoc"})
def _correlate(start, stop, u, grad, dtaps, d, time, ahead):
    lags = dtaps.size // d
    for channel in range(start, stop):
        for row in range(channel, u.size // time, d):
            base = np.uint64(row * time)
            for low in range(0, time, _PIECE):
                high = min(low + _PIECE, time)
                for i in range(lags):
                    lag = i - ahead
                    then = base - np.uint64(lag)
                    total = dtaps[0] * 0
                    for t in range(np.uint64(max(low, lag)), np.uint64(min(high, time + lag))):
                        total += grad[base + t] * u[then + t]
                    dtaps[channel * lags + i] += total
