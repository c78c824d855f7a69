"""Vandermonde on a GPU: every power is one product of two short tables, and only K is written.

With l = i·M + j, z^l = z^(iM) z^j, so a block of rows i of a head is a matrix product over the
modes. Both factors are built where they are used, in float64, and rounded once to the precision of
the result: z^j = z^(j%8) z^(j-j%8) and z^(iM) in the same way, from powers that a first kernel
leaves in memory. That is one complex product an entry. Without such powers in memory it would be
log2(L) of them; with the factors themselves in memory, a tap would move 12 bytes instead of 6 at
n = 32 and L = 16384.

Backward, with h_m = g_(m+1), so that no power is divided by z, and m = i·M + j:

    Σ_l g_l z^l = g_0 + z A              A = Σ_i z^(iM) T_i             T_i = Σ_j h_ij z^j
    Σ_l l g_l z^(l-1) = B                B = Σ_i z^(iM) (iM T_i + V_i)  V_i = Σ_j (j+1) h_ij z^j

T and V are matrix products with the same table of z^j. Each program leaves A and B of its rows in
float64, and a last kernel adds them in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch, tuned

# How many powers the finer table of each pair has.
_FINE = tl.constexpr(8)


def forward(c: Tensor, z: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """See `gonzo.core.ops.vandermonde`."""
    heads, n, _ = z.shape
    if not z.numel():
        return z.new_zeros(heads, length, dtype=dtype)
    out = z.new_empty(heads, length, dtype=dtype)
    rows, columns = _rows(length, dtype), 64
    powers = _powers(c, z, length, columns)
    launch(
        _forward64 if dtype == torch.float64 else _forward32,
        (heads * triton.cdiv(length, rows * columns),),
        *(powers, out, n, length, powers.shape[1], length.bit_length()),
        ROWS=rows,
        COLUMNS=columns,
    )
    return out


def backward(grad: Tensor, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of c and z, (H, N, 2) each, from that of K, (H, L)."""
    heads, n, _ = z.shape
    length = grad.shape[1]
    grad, c, z = grad.contiguous(), c.contiguous(), z.contiguous()
    dc, dz = torch.empty_like(c), torch.empty_like(z)
    if not z.numel():
        return dc, dz
    # Wider rows leave fewer of them to combine in float64; forward, registers are too few for them.
    rows, columns = _rows(length, grad.dtype), 64 if length <= 4096 else 128
    powers = _powers(None, z, length, columns)
    blocks = triton.cdiv(length, rows * columns)
    sums = z.new_empty(heads, blocks, 4, n, dtype=torch.float64)
    launch(
        _backward64 if grad.dtype == torch.float64 else _backward32,
        lambda k: (heads * blocks * triton.cdiv(n, k["MODES"]),),
        *(grad, powers, sums, n, length, powers.shape[1], length.bit_length()),
        ROWS=rows,
        COLUMNS=columns,
    )
    grid = (triton.cdiv(heads * n, 32),)
    arguments = (grad, c, z, sums, dc, dz, heads * n, n, length, blocks)
    launch(_combine, grid, *arguments, SIZE=32, num_warps=1)
    return dc, dz


def _rows(length: int, dtype: torch.dtype) -> int:
    """How many rows of taps one program owns.

    Few in short kernels, whose last program is mostly beyond the end. In long ones many, since R
    rows of M taps share tables that take 4 n (1/R + 1/M) float64 operations a tap; in float64
    registers are too few for that.
    """
    return 64 if dtype == torch.float32 and length > 1024 else 16


def _powers(scale: Tensor | None, z: Tensor, length: int, columns: int) -> Tensor:
    """(H, entries, 2, N) float64: the four short tables, the last times 2 `scale`."""
    heads, n, _ = z.shape
    coarse_columns = columns // _FINE.value
    coarse_rows = triton.cdiv(length, columns * _FINE.value)
    entries = _FINE.value + coarse_columns + _FINE.value + coarse_rows
    powers = z.new_empty(heads, entries, 2, n, dtype=torch.float64)
    z = z.contiguous()
    launch(
        _fill_powers,
        (triton.cdiv(heads * n, 32),),
        *(z if scale is None else scale.contiguous(), z, powers),
        *(heads * n, n, entries, coarse_columns, coarse_rows),
        SCALED=scale is not None,
        SIZE=32,
        num_warps=1,
    )
    return powers


@triton.jit
def _times(ar, ai, br, bi):
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def _fill_powers(
    scale, z, powers, size, n, entries, coarse_columns, coarse_rows,
    SCALED: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """A thread multiplies its way through the four tables of one mode."""
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    mask = i < size
    at = powers + (i // n) * entries * 2 * n + i % n
    zr = tl.load(z + 2 * i, mask, 0.0).to(tl.float64)
    zi = tl.load(z + 2 * i + 1, mask, 0.0).to(tl.float64)
    sr, si = tl.full([SIZE], 1.0, tl.float64), tl.full([SIZE], 0.0, tl.float64)
    at, zr, zi = _fill(at, n, mask, sr, si, zr, zi, _FINE)
    at, zr, zi = _fill(at, n, mask, sr, si, zr, zi, coarse_columns)
    at, zr, zi = _fill(at, n, mask, sr, si, zr, zi, _FINE)
    if SCALED:
        sr = 2 * tl.load(scale + 2 * i, mask, 0.0).to(tl.float64)
        si = 2 * tl.load(scale + 2 * i + 1, mask, 0.0).to(tl.float64)
    _fill(at, n, mask, sr, si, zr, zi, coarse_rows)


@triton.jit
def _fill(at, n, mask, pr, pi, zr, zi, count):
    """Store p, p z, … p z^(count-1); return where the next table begins, and p z^count."""
    for _ in range(count):
        tl.store(at, pr, mask)
        tl.store(at + n, pi, mask)
        pr, pi = _times(pr, pi, zr, zi)
        at += 2 * n
    return at, pr, pi


@triton.jit
def _table(powers, n, k, fine, coarse, mask):
    """Powers (positions, modes) in float64, from the entries of the two tables they are made of."""
    fine, coarse = powers + fine * (2 * n) + k, powers + coarse * (2 * n) + k
    ar, ai = tl.load(fine, mask, 0.0), tl.load(fine + n, mask, 0.0)
    br, bi = tl.load(coarse, mask, 0.0), tl.load(coarse + n, mask, 0.0)
    return _times(ar, ai, br, bi)


@triton.jit
def _column_table(powers, n, k, column):
    coarse = _FINE + column // _FINE
    return _table(powers, n, k, column % _FINE, coarse, k < n)


@triton.jit
def _row_table(powers, n, k, row, length, COLUMNS: tl.constexpr):
    first: tl.constexpr = _FINE + COLUMNS // _FINE
    coarse = first + _FINE + row // _FINE
    mask = (k < n) & (row < tl.cdiv(length, COLUMNS))
    return _table(powers, n, k, first + row % _FINE, coarse, mask)


@triton.jit
def _add_product(acc, a, b):
    """Sum of acc (I, J) and the product of a (I, K) and b (K, J), in their own precision."""
    if acc.dtype == tl.float64:  # not every Triton from 3.4 on has a tl.dot of it
        acc += tl.sum(tl.trans(a)[:, :, None] * b[:, None, :], 0)
    else:
        acc = tl.dot(a, b, acc, input_precision="ieee")
    return acc


@triton.jit(do_not_specialize=["octave"])
def _forward(
    powers, out, n, length, entries, octave,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, MODES: tl.constexpr,
):  # fmt: skip
    dtype: tl.constexpr = out.dtype.element_ty
    blocks = tl.cdiv(length, ROWS * COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    head, block = program // blocks, program % blocks
    powers += head * entries * 2 * n
    row = (block * ROWS).to(tl.int32) + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[:, None]
    taps = tl.full([ROWS, COLUMNS], 0.0, dtype)
    for first in range(0, n, MODES):
        k = first + tl.arange(0, MODES)[None, :]
        left_r, left_i = _row_table(powers, n, k, row, length, COLUMNS)
        right_r, right_i = _column_table(powers, n, k, column)
        taps = _add_product(taps, left_r.to(dtype), tl.trans(right_r.to(dtype)))
        taps = _add_product(taps, left_i.to(dtype), tl.trans(-right_i.to(dtype)))
    at = row.to(tl.int64) * COLUMNS + tl.trans(column)
    tl.store(out + head * length + at, taps, at < length)


@triton.jit(do_not_specialize=["octave"])
def _backward(
    grad, powers, sums, n, length, entries, octave,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, MODES: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A and B of one block of rows."""
    dtype: tl.constexpr = grad.dtype.element_ty
    groups, blocks = tl.cdiv(n, MODES), tl.cdiv(length, ROWS * COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    group, block, head = program % groups, program // groups % blocks, program // groups // blocks
    powers += head * entries * 2 * n
    grad += head * length
    k = (group * MODES).to(tl.int32) + tl.arange(0, MODES)[None, :]
    row = (block * ROWS).to(tl.int32) + tl.arange(0, ROWS)[:, None]
    lag = row.to(tl.int64) * COLUMNS
    tr = tl.full([ROWS, MODES], 0.0, dtype)
    ti, vr, vi = tr, tr, tr
    for first in range(0, COLUMNS, STEP):
        column = first + tl.arange(0, STEP)
        at = lag + column[None, :] + 1
        g = tl.load(grad + at, at < length, 0.0)
        table_r, table_i = _column_table(powers, n, k, column[:, None])
        table_r, table_i = table_r.to(dtype), table_i.to(dtype)
        tr, ti = _add_product(tr, g, table_r), _add_product(ti, g, table_i)
        g *= (column + 1).to(dtype)[None, :]
        vr, vi = _add_product(vr, g, table_r), _add_product(vi, g, table_i)
    left_r, left_i = _row_table(powers, n, k, row, length, COLUMNS)
    tr, ti = tr.to(tl.float64), ti.to(tl.float64)
    lag = lag.to(tl.float64)
    vr, vi = lag * tr + vr.to(tl.float64), lag * ti + vi.to(tl.float64)
    tr, ti = _times(tr, ti, left_r, left_i)
    vr, vi = _times(vr, vi, left_r, left_i)
    at = sums + (head * blocks + block) * 4 * n + k
    tl.store(at, tl.sum(tr, 0, True), k < n)
    tl.store(at + n, tl.sum(ti, 0, True), k < n)
    tl.store(at + 2 * n, tl.sum(vr, 0, True), k < n)
    tl.store(at + 3 * n, tl.sum(vi, 0, True), k < n)


@triton.jit
def _combine(grad, c, z, sums, dc, dz, size, n, length, blocks, SIZE: tl.constexpr):
    """Gradients are dRe + i dIm, so conjugates: 2 conj(g_0 + z A) and 2 conj(c B)."""
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    mask = i < size
    head, k = i // n, i % n
    at = sums + head * blocks * 4 * n + k
    ar = tl.full([SIZE], 0.0, tl.float64)
    ai, br, bi = ar, ar, ar
    for _ in range(blocks):
        ar += tl.load(at, mask, 0.0)
        ai += tl.load(at + n, mask, 0.0)
        br += tl.load(at + 2 * n, mask, 0.0)
        bi += tl.load(at + 3 * n, mask, 0.0)
        at += 4 * n
    zr = tl.load(z + 2 * i, mask, 0.0).to(tl.float64)
    zi = tl.load(z + 2 * i + 1, mask, 0.0).to(tl.float64)
    cr = tl.load(c + 2 * i, mask, 0.0).to(tl.float64)
    ci = tl.load(c + 2 * i + 1, mask, 0.0).to(tl.float64)
    first = tl.load(grad + head * length, mask, 0.0).to(tl.float64)
    ar, ai = _times(ar, ai, zr, zi)
    br, bi = _times(br, bi, cr, ci)
    tl.store(dc + 2 * i, 2 * (first + ar), mask)
    tl.store(dc + 2 * i + 1, -2 * ai, mask)
    tl.store(dz + 2 * i, 2 * br, mask)
    tl.store(dz + 2 * i + 1, -2 * bi, mask)


def _config(warps: int, **constants: Any) -> triton.Config:
    # Nothing is read often enough to be worth staging.
    return triton.Config(constants, num_warps=warps, num_stages=1)


# Measured once for each n and octave of lengths, not for each length.
_KEY = ["n", "octave"]
_forward32 = tuned([_config(4, MODES=16), _config(8, MODES=16)], _KEY)(_forward)
_forward64 = tuned([_config(8, MODES=4)], _KEY)(_forward)
_backward32 = tuned([_config(8, MODES=32, STEP=16), _config(4, MODES=16, STEP=16)], _KEY)(_backward)
_backward64 = tuned([_config(4, MODES=16, STEP=8)], _KEY)(_backward)
