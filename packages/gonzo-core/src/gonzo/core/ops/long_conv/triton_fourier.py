"""What surrounds cuFFT in a long convolution: one pass in, one between the transforms, one out.

A real sequence of n = 2m numbers, read as the m complex ones z_j = x_2j + i x_2j+1, is transformed
by one complex transform of m points, Z. The spectra of its even and its odd entries are

    E_k = (Z_k + conj(Z_m-k)) / 2,   O_k = (Z_k - conj(Z_m-k)) / 2i,   X = E + t O,  t = e^{-2πik/n}

and a product of two such spectra, with τ = t² = e^{-2πik/m}, has

    E = E₁ E₂ + τ O₁ O₂,   O = E₁ O₂ + O₁ E₂;   conj(X) has conj(E) and conj(τ) conj(O).

So the spectrum of the real sequence is never formed: a kernel takes entries k and m-k of both
factors to the same entries of the product, in place. This spares the pass in which
`torch.fft.irfft` copies its input; another, that scales, is spared by `norm="forward"` with the
factor put into the product.

Blocks of channels bound the memory, whatever the sizes. They are of one shape, so that two plans of
cuFFT serve a call; the last block begins early where the channels do not divide, and computes some
channels again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch

from .fourier import transform_size

_NUMBERS = 1 << 25  # real numbers in one buffer, of which at most four live: 128 MiB in float32
_TILE = 2048  # numbers that one program moves
_PAIRS = 256  # pairs of entries (k, m - k) that one program multiplies
_PROGRAMS = 1024  # wanted at least, where a sum over the batch can be split: 132 processors, 8 each


def forward(u: Tensor, taps: Tensor, ahead: int) -> Tensor:
    """With the taps laid out from 0 on, y[t] is entry t + ahead of the convolution."""
    n = transform_size(u.shape[2], taps.shape[1], ahead)
    y = torch.empty_like(u)
    tau = _tau(n // 2, _wide(u.dtype), u.device)
    for some in _blocks(u, n):
        kernel = _transformed(taps[None, some], n, 0)
        spectrum = _transformed(u[:, some], n, 0)
        _multiply(spectrum, kernel, tau)
        _move(_inverse(spectrum), y[:, some], ahead)
    return y


def backward(grad: Tensor, u: Tensor, taps: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """Correlations of the gradient, which starts at entry `ahead`, with the taps and with u."""
    n = transform_size(u.shape[2], taps.shape[1], ahead)
    du = torch.empty_like(u)
    dtaps = torch.empty(taps.shape, dtype=taps.dtype, device=taps.device)
    tau = _tau(n // 2, _wide(u.dtype), u.device)
    for some in _blocks(u, n):
        kernel = _transformed(taps[None, some], n, 0)
        spectrum = _transformed(u[:, some], n, 0)
        gradient = _transformed(grad[:, some], n, ahead)
        total = _correlate(gradient, spectrum, kernel, tau)
        _move(_inverse(gradient), du[:, some], 0)
        _move(_inverse(total), dtaps[None, some], 0)
    return du, dtaps


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _blocks(u: Tensor, n: int) -> Iterator[slice]:
    """Channels to transform at once: all of the batch, and one channel at least."""
    batch, channels, _ = u.shape
    blocks = triton.cdiv(channels, max(1, _NUMBERS // (batch * n)))
    size = triton.cdiv(channels, blocks)
    for block in range(blocks):
        start = min(block * size, channels - size)
        yield slice(start, start + size)


def _tau(m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """e^{-2πik/m} for k to m/2, (m//2 + 1, 2). A cached one would be unsafe to capture in a graph.

    Not computed in the kernel either: sines for large arguments, which never come, would spill.
    """
    angle = torch.arange(m // 2 + 1, dtype=torch.float64, device=device) * (-2 * math.pi / m)
    return torch.stack([angle.cos(), angle.sin()], -1).to(dtype)


def _transformed(x: Tensor, n: int, offset: int) -> Tensor:
    """Place x (batch, channels, time) from entry `offset` on, zeros elsewhere, and transform.

    Returns:
        (batch, channels, n/2, 2), the transform of the n/2 complex numbers.
    """
    placed = torch.empty(*x.shape[:2], n, dtype=_wide(x.dtype), device=x.device)
    _move(x, placed, -offset)
    numbers = torch.view_as_complex(placed.unflatten(-1, (n // 2, 2)))
    return torch.view_as_real(torch.fft.fft(numbers))


def _inverse(spectrum: Tensor) -> Tensor:
    """Return the n real numbers of each row; scaled already."""
    numbers = torch.fft.ifft(torch.view_as_complex(spectrum), norm="forward")
    return torch.view_as_real(numbers).flatten(-2)


def _move(source: Tensor, target: Tensor, shift: int) -> None:
    """``target[..., j] = source[..., j + shift]``, zero where that does not exist."""
    batch, channels, length = target.shape
    block_c = min(32, triton.next_power_of_2(channels))
    block_t = _TILE // block_c
    tiles_c, tiles_t = triton.cdiv(channels, block_c), triton.cdiv(length, block_t)
    launch(
        _move_kernel,
        (batch * tiles_c * tiles_t,),
        *(source, target, shift, channels, source.shape[2], length, *source.stride()),
        *target.stride(),
        BLOCK_C=block_c,
        BLOCK_T=block_t,
    )


def _multiply(spectrum: Tensor, kernel: Tensor, tau: Tensor) -> None:
    """Multiply (batch, channels, m, 2) in place by (1, channels, m, 2), over n."""
    batch, channels, m, _ = spectrum.shape
    tiles = triton.cdiv(m // 2 + 1, _PAIRS)
    pieces = _pieces(batch, channels * tiles)
    launch(
        _multiply_kernel,
        (pieces * channels * tiles,),
        *(spectrum, kernel, tau, batch, channels, m, pieces),
        BLOCK=_PAIRS,
    )


def _correlate(gradient: Tensor, spectrum: Tensor, kernel: Tensor, tau: Tensor) -> Tensor:
    """Turn the gradient's transform into that of du, and return that of the taps' gradient."""
    batch, channels, m, _ = spectrum.shape
    tiles = triton.cdiv(m // 2 + 1, _PAIRS)
    pieces = _pieces(batch, channels * tiles)
    totals = spectrum.new_empty(pieces, channels, m, 2)
    launch(
        _correlate_kernel,
        (pieces * channels * tiles,),
        *(gradient, spectrum, kernel, tau, totals, batch, channels, m, pieces),
        BLOCK=_PAIRS,
    )
    return totals.sum(0, keepdim=True) if pieces > 1 else totals


def _pieces(batch: int, programs: int) -> int:
    """Into how many pieces to cut the batch: a program goes through one, with its taps at hand."""
    return min(batch, triton.cdiv(_PROGRAMS, programs))


@triton.jit
def _move_kernel(
    source,
    target,
    shift,
    channels,
    source_length,
    target_length,
    source_batch,
    source_channel,
    source_time,
    target_batch,
    target_channel,
    target_time,
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    tiles_t = tl.cdiv(target_length, BLOCK_T)
    tiles_c = tl.cdiv(channels, BLOCK_C)
    program = tl.program_id(0).to(tl.int64)
    t = program % tiles_t * BLOCK_T + tl.arange(0, BLOCK_T)[None, :]
    c = program // tiles_t % tiles_c * BLOCK_C + tl.arange(0, BLOCK_C)[:, None]
    b = program // tiles_t // tiles_c
    from_t = t + shift
    exists = (c < channels) & (from_t >= 0) & (from_t < source_length)
    value = tl.load(
        source + b * source_batch + c * source_channel + from_t * source_time, exists, other=0.0
    )
    # 16 bits go through float32: the interpreter cannot convert bfloat16 to anything else.
    if value.dtype != tl.float64:
        value = value.to(tl.float32)
    tl.store(
        target + b * target_batch + c * target_channel + t * target_time,
        value.to(target.dtype.element_ty),
        (c < channels) & (t < target_length),
    )


@triton.jit
def _multiply_kernel(spectrum, kernel, tau, batch, channels, m, pieces, BLOCK: tl.constexpr):
    piece, channel, k = _place(channels, m, BLOCK)
    tau_re, tau_im = _numbers(tau, k, 2 * k <= m)
    w_e_re, w_e_im, w_o_re, w_o_im = _halves(kernel + channel * m * 2, k, m)
    scale = _scale(tau, m)
    w_e_re, w_e_im, w_o_re, w_o_im = w_e_re * scale, w_e_im * scale, w_o_re * scale, w_o_im * scale
    # τ O of the taps, once for the whole batch.
    turned_re = tau_re * w_o_re - tau_im * w_o_im
    turned_im = tau_re * w_o_im + tau_im * w_o_re
    for b in range(piece, batch, pieces):
        row = spectrum + (b * channels + channel) * m * 2
        e_re, e_im, o_re, o_im = _halves(row, k, m)
        _store_halves(
            row,
            k,
            m,
            e_re * w_e_re - e_im * w_e_im + o_re * turned_re - o_im * turned_im,
            e_re * w_e_im + e_im * w_e_re + o_re * turned_im + o_im * turned_re,
            e_re * w_o_re - e_im * w_o_im + o_re * w_e_re - o_im * w_e_im,
            e_re * w_o_im + e_im * w_o_re + o_re * w_e_im + o_im * w_e_re,
        )


@triton.jit
def _correlate_kernel(
    gradient, spectrum, kernel, tau, totals, batch, channels, m, pieces, BLOCK: tl.constexpr
):
    piece, channel, k = _place(channels, m, BLOCK)
    tau_re, tau_im = _numbers(tau, k, 2 * k <= m)
    w_e_re, w_e_im, w_o_re, w_o_im = _halves(kernel + channel * m * 2, k, m)
    scale = _scale(tau, m)
    sum_e_re = tl.zeros_like(w_e_re)
    sum_e_im = tl.zeros_like(w_e_re)
    sum_o_re = tl.zeros_like(w_e_re)
    sum_o_im = tl.zeros_like(w_e_re)
    for b in range(piece, batch, pieces):
        at = (b * channels + channel) * m * 2
        a_re, a_im, b_re, b_im = _halves(gradient + at, k, m)
        a_re, a_im, b_re, b_im = a_re * scale, a_im * scale, b_re * scale, b_im * scale
        # conj(τ) of the even half, once for both products.
        c_re = tau_re * a_re + tau_im * a_im
        c_im = tau_re * a_im - tau_im * a_re
        e_re, e_im, o_re, o_im = _halves(spectrum + at, k, m)
        sum_e_re += a_re * e_re + a_im * e_im + b_re * o_re + b_im * o_im
        sum_e_im += a_im * e_re - a_re * e_im + b_im * o_re - b_re * o_im
        sum_o_re += c_re * o_re + c_im * o_im + b_re * e_re + b_im * e_im
        sum_o_im += c_im * o_re - c_re * o_im + b_im * e_re - b_re * e_im
        _store_halves(
            gradient + at,
            k,
            m,
            a_re * w_e_re + a_im * w_e_im + b_re * w_o_re + b_im * w_o_im,
            a_im * w_e_re - a_re * w_e_im + b_im * w_o_re - b_re * w_o_im,
            c_re * w_o_re + c_im * w_o_im + b_re * w_e_re + b_im * w_e_im,
            c_im * w_o_re - c_re * w_o_im + b_im * w_e_re - b_re * w_e_im,
        )
    row = totals + (piece * channels + channel) * m * 2
    _store_halves(row, k, m, sum_e_re, sum_e_im, sum_o_re, sum_o_im)


@triton.jit
def _place(channels, m, BLOCK: tl.constexpr):
    """The piece of the batch, the channel and the entries k of this program."""
    tiles = tl.cdiv(m // 2 + 1, BLOCK)
    program = tl.program_id(0).to(tl.int64)
    k = program % tiles * BLOCK + tl.arange(0, BLOCK)
    return program // tiles // channels, program // tiles % channels, k


@triton.jit
def _scale(like, m):
    """1/m of the inverse transform, and 1/4 for two doubled factors.

    As an argument it would arrive in float32.
    """
    return tl.full([], 0.25, like.dtype.element_ty) / m


@triton.jit
def _numbers(row, index, mask):
    """Real and imaginary parts of some of a row's numbers, each loaded as a whole."""
    parts = tl.arange(0, 2)[None, :]
    return tl.split(tl.load(row + index[:, None] * 2 + parts, mask[:, None], other=0.0))


@triton.jit
def _halves(row, k, m):
    """Twice E_k and O_k, real and imaginary parts."""
    mask = 2 * k <= m
    re, im = _numbers(row, k, mask)
    mirror_re, mirror_im = _numbers(row, tl.where(k == 0, 0, m - k), mask)
    return re + mirror_re, im - mirror_im, im + mirror_im, mirror_re - re


@triton.jit
def _store_halves(row, k, m, e_re, e_im, o_re, o_im):
    """Z_k = E + i O and Z_m-k = conj(E) + i conj(O); entries 0 and m/2 mirror themselves."""
    parts = tl.arange(0, 2)[None, :]
    here = row + k[:, None] * 2 + parts
    tl.store(here, tl.join(e_re - o_im, e_im + o_re), (2 * k <= m)[:, None])
    there = row + (m - k)[:, None] * 2 + parts
    tl.store(there, tl.join(e_re + o_im, o_re - e_im), ((k > 0) & (2 * k < m))[:, None])
