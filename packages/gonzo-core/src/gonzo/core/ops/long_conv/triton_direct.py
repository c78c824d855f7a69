"""Short kernels: shifted multiply-adds, each program a tile of channels by time.

Every tap of an element is one load from the first-level cache and one multiply-add; nothing but u,
the taps and y passes through memory. A tile lies along channels or time, whichever is contiguous.
Tiles that need no mask have a loop of their own: masks cost more than the rest of it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch, tuned

_TAPS = 16  # of a tile of their gradient, at most
_TILE = 16384  # bytes of its sums: 32 registers a thread
_PROGRAMS = 1024  # wanted at least for it: 132 processors, 8 each


def forward(u: Tensor, taps: Tensor, ahead: int) -> Tensor:
    """y, laid out like u, where tap i has lag ``i - ahead``."""
    return _convolved(u, taps, ahead, torch.empty_like(u))


def backward(grad: Tensor, u: Tensor, taps: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """The gradient of u is a convolution with the taps reversed: lag s becomes −s."""
    du = _convolved(grad, taps.flip(1), taps.shape[1] - 1 - ahead, torch.empty_like(u))
    return du, _correlated(grad, u, taps.shape[1], ahead).to(taps.dtype)


def _convolved(u: Tensor, taps: Tensor, ahead: int, y: Tensor) -> Tensor:
    batch, channels, time = u.shape
    if u.stride(1) == 1:
        taps = taps.mT.contiguous().mT  # so that the taps of neighbouring channels are neighbours
    launch(
        _convolve_kernel,
        lambda c: (batch * triton.cdiv(channels, c["BLOCK_C"]) * triton.cdiv(time, c["BLOCK_T"]),),
        *(u, taps, y, channels, time, taps.shape[1], ahead, *u.stride(), *taps.stride()),
        *y.stride(),
    )
    return y


def _correlated(grad: Tensor, u: Tensor, lags: int, ahead: int) -> Tensor:
    """The gradient of the taps, a sum over batch and time: in pieces, which torch adds up."""
    batch, channels, time = u.shape
    block_k = min(_TAPS, triton.next_power_of_2(lags))
    block_c = min(64, triton.next_power_of_2(channels)) if u.stride(1) == 1 else 1
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    block_t = min(1024, _TILE // (wide.itemsize * block_k * block_c))
    tiles = triton.cdiv(channels, block_c) * triton.cdiv(lags, block_k)
    # Partial sums of a piece that is four times as long as the kernel are a quarter of u.
    span = max(4 * lags, batch * time * tiles // _PROGRAMS)
    span = triton.cdiv(min(span, time), block_t) * block_t
    pieces = batch * triton.cdiv(time, span)
    partial = torch.empty(pieces, channels, lags, dtype=wide, device=u.device)
    launch(
        _correlate_kernel,
        (pieces * tiles,),
        *(grad, u, partial, channels, time, lags, ahead, span, *grad.stride(), *u.stride()),
        BLOCK_K=block_k,
        BLOCK_C=block_c,
        BLOCK_T=block_t,
    )
    return partial.sum(0)


# Neither kernel knows that its results or gradients are aligned, nor the value of `ahead`. Else the
# compiler gives four neighbouring steps to each thread, for the sake of one store, and the loads of
# all taps, which no knowledge aligns, touch four lines of the cache each. Where channels are
# contiguous it still finds that u is aligned.


@tuned(
    [
        triton.Config({"BLOCK_C": 1, "BLOCK_T": 1024}, num_warps=4),
        triton.Config({"BLOCK_C": 4, "BLOCK_T": 256}, num_warps=4),
        triton.Config({"BLOCK_C": 64, "BLOCK_T": 32}, num_warps=4),
    ],
    key=["channels", "lags", "u_time"],
)
@triton.jit(do_not_specialize=["ahead"], do_not_specialize_on_alignment=["y"])
def _convolve_kernel(
    u,
    taps,
    y,
    channels,
    time,
    lags,
    ahead,
    u_batch,
    u_channel,
    u_time,
    taps_channel,
    taps_lag,
    y_batch,
    y_channel,
    y_time,
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tiles_t = tl.cdiv(time, BLOCK_T)
    tiles_c = tl.cdiv(channels, BLOCK_C)
    program = tl.program_id(0).to(tl.int64)
    start_t = program % tiles_t * BLOCK_T
    start_c = program // tiles_t % tiles_c * BLOCK_C
    b = program // tiles_t // tiles_c
    c = tl.arange(0, BLOCK_C)[:, None].to(tl.int64)
    t = tl.arange(0, BLOCK_T)[None, :].to(tl.int64)
    past = u + b * u_batch + start_c * u_channel + (start_t + ahead) * u_time
    past += c * u_channel + t * u_time  # where the first tap reads
    weight = taps + start_c * taps_channel + c * taps_channel
    wide: tl.constexpr = tl.float64 if u.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([BLOCK_C, BLOCK_T], wide)
    if (
        (start_c + BLOCK_C <= channels)
        & (start_t >= lags - 1 - ahead)
        & (start_t + BLOCK_T + ahead <= time)
    ):
        for i in tl.range(lags, loop_unroll_factor=4):
            value = tl.load(past - i * u_time)
            total += tl.load(weight + i * taps_lag).to(wide) * value.to(wide)
    else:
        exists = start_c + c < channels
        for i in range(lags):
            then = start_t + t + (ahead - i)
            mask = exists & (then >= 0) & (then < time)
            value = tl.load(past - i * u_time, mask, other=0.0)
            total += tl.load(weight + i * taps_lag, exists, other=0.0).to(wide) * value.to(wide)
    tl.store(
        y + b * y_batch + start_c * y_channel + start_t * y_time + c * y_channel + t * y_time,
        total.to(y.dtype.element_ty),
        (start_c + c < channels) & (start_t + t < time),
    )


@triton.jit(do_not_specialize=["ahead"], do_not_specialize_on_alignment=["grad"])
def _correlate_kernel(
    grad,
    u,
    partial,
    channels,
    time,
    lags,
    ahead,
    span,
    grad_batch,
    grad_channel,
    grad_time,
    u_batch,
    u_channel,
    u_time,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tiles_k = tl.cdiv(lags, BLOCK_K)
    tiles_c = tl.cdiv(channels, BLOCK_C)
    spans = tl.cdiv(time, span)
    program = tl.program_id(0).to(tl.int64)
    start_k = program % tiles_k * BLOCK_K
    start_c = program // tiles_k % tiles_c * BLOCK_C
    piece = program // tiles_k // tiles_c
    b = piece // spans
    start_t = piece % spans * span
    i = tl.arange(0, BLOCK_K)[:, None, None].to(tl.int64)
    c = tl.arange(0, BLOCK_C)[None, :, None].to(tl.int64)
    t = tl.arange(0, BLOCK_T)[None, None, :].to(tl.int64)
    grad += b * grad_batch + start_c * grad_channel + c * grad_channel + t * grad_time
    u += b * u_batch + start_c * u_channel + (ahead - start_k) * u_time
    u += c * u_channel + (t - i) * u_time
    exists = start_c + c < channels
    wide: tl.constexpr = tl.float64 if u.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros([BLOCK_K, BLOCK_C, BLOCK_T], wide)
    for low in range(start_t, tl.minimum(start_t + span, time), BLOCK_T):
        now = tl.load(grad + low * grad_time, exists & (low + t < time), other=0.0)
        first = low + ahead - start_k - (BLOCK_K - 1)  # of the steps that are read
        last = low + ahead - start_k + BLOCK_T - 1
        if (first >= 0) & (last < time) & (start_c + BLOCK_C <= channels):
            past = tl.load(u + low * u_time)
        else:
            then = low + ahead - start_k + t - i
            past = tl.load(u + low * u_time, exists & (then >= 0) & (then < time), other=0.0)
        total += now.to(wide) * past.to(wide)
    i = start_k + tl.arange(0, BLOCK_K)[:, None]
    c = start_c + tl.arange(0, BLOCK_C)[None, :]
    # A tile may have more taps than there are; their sums are dropped.
    to = partial + (piece * channels + c) * lags + i
    tl.store(to, tl.sum(total, 2), (c < channels) & (i < lags))
