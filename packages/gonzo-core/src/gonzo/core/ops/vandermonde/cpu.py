"""Blocked Vandermonde: with l = i·M + j, z^l = z^{iM} z^j, so K is a small matrix product per head.

Two tables of about sqrt(L) powers replace L powers. They are built in float64 and rounded once, a
few heads at a time, so they stay in cache and memory is O(L) beyond the result.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows
from gonzo.core.ops.checks import check_finite

_TABLE_BYTES = 1 << 20  # tables of one block of heads: about half of a core's second-level cache


def forward(c: Tensor, z: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """See `gonzo.core.ops.vandermonde`."""
    check_finite("vandermonde", c=c, z=z)
    heads, n, _ = z.shape
    rows, columns = _split(length)
    c, z = c.double().contiguous(), z.double().contiguous()
    out = torch.empty(heads, rows * columns, dtype=dtype)
    step = _heads_at_once(heads, n, rows + columns, dtype)
    left = torch.empty(step, rows, 2 * n, dtype=dtype)
    right = torch.empty(step, 2 * n, columns, dtype=dtype)
    for start in range(0, heads, step):
        stop = min(start + step, heads)
        size = stop - start
        tables = (c[start:stop], z[start:stop], left[:size], right[:size])
        run_rows(size, _forward_tables, *(t.numpy() for t in tables))
        block = out[start:stop].view(size, rows, columns)
        torch.bmm(left[:size], right[:size], out=block)
    return out[:, :length].contiguous() if out.shape[1] != length else out


def backward(grad: Tensor, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of c and z, (H, N, 2) each, from that of K, (H, L)."""
    heads, n, _ = z.shape
    length = grad.shape[1]
    rows, columns = _split(length)
    padded = grad.contiguous()
    if rows * columns != length:
        padded = torch.nn.functional.pad(padded, (0, rows * columns - length))
    c64, z64 = c.double().contiguous(), z.double().contiguous()
    dc, dz = torch.empty_like(z64), torch.empty_like(z64)
    step = _heads_at_once(heads, n, 2 * (rows + columns), grad.dtype)
    right = torch.empty(step, columns, 4 * n, dtype=grad.dtype)
    for start in range(0, heads, step):
        stop = min(start + step, heads)
        size = stop - start
        run_rows(size, _backward_tables, z64[start:stop].numpy(), right[:size].numpy())
        sums = torch.bmm(padded[start:stop].view(size, rows, columns), right[:size])
        block = (c64, z64, dc, dz)
        run_rows(size, _combine, sums.numpy(), columns, *(t[start:stop].numpy() for t in block))
    return dc.to(c.dtype), dz.to(z.dtype)


def _split(length: int) -> tuple[int, int]:
    """(I, M) with I·M >= length, M a multiple of 16 near sqrt(length)."""
    columns = max(16, 16 * round(math.sqrt(length) / 16))
    return -(-length // columns), columns


def _heads_at_once(heads: int, n: int, powers: int, dtype: torch.dtype) -> int:
    per_head = 2 * n * powers * dtype.itemsize
    return max(1, min(heads, max(torch.get_num_threads(), _TABLE_BYTES // max(per_head, 1))))


@kernel
def _forward_tables(start, stop, c, z, left, right):
    """left[h, i] = 2 c z^{iM} and right[h, :, j] = z^j, so that Re(left · right) = K."""
    n = z.shape[1]
    rows, columns = left.shape[1], right.shape[2]
    pr, pi = np.empty(n), np.empty(n)
    for h in range(start, stop):
        for k in range(n):
            re, im = 1.0, 0.0
            zr, zi = z[h, k, 0], z[h, k, 1]
            for j in range(columns):
                right[h, k, j] = re
                right[h, n + k, j] = -im
                re, im = re * zr - im * zi, re * zi + im * zr
            pr[k], pi[k] = re, im  # z^M
        for k in range(n):
            re, im = 2.0 * c[h, k, 0], 2.0 * c[h, k, 1]
            for i in range(rows):
                left[h, i, k] = re
                left[h, i, n + k] = im
                re, im = re * pr[k] - im * pi[k], re * pi[k] + im * pr[k]


@kernel
def _backward_tables(start, stop, z, right):
    """right[h, j] = (Re z^j, Im z^j, Re j z^{j-1}, Im j z^{j-1})."""
    n = z.shape[1]
    columns = right.shape[1]
    for h in range(start, stop):
        for k in range(n):
            zr, zi = z[h, k, 0], z[h, k, 1]
            re, im = 1.0, 0.0
            before_re, before_im = 0.0, 0.0
            for j in range(columns):
                right[h, j, k] = re
                right[h, j, n + k] = im
                right[h, j, 2 * n + k] = j * before_re
                right[h, j, 3 * n + k] = j * before_im
                before_re, before_im = re, im
                re, im = re * zr - im * zi, re * zi + im * zr


@kernel
def _combine(start, stop, sums, columns, c, z, dc, dz):
    """Add the blocks: Σ_i z^{iM} S_i, and for z its derivative, in float64."""
    rows, n = sums.shape[1], z.shape[1]
    for h in range(start, stop):
        for k in range(n):
            zr, zi = z[h, k, 0], z[h, k, 1]
            last_re, last_im = 1.0, 0.0  # z^{M-1}
            for _ in range(columns - 1):
                last_re, last_im = last_re * zr - last_im * zi, last_re * zi + last_im * zr
            mr, mi = last_re * zr - last_im * zi, last_re * zi + last_im * zr  # z^M
            pr, pi = 1.0, 0.0  # z^{iM}
            qr, qi = 0.0, 0.0  # z^{iM-1}, times i·M below
            s0r, s0i, s1r, s1i = 0.0, 0.0, 0.0, 0.0
            for i in range(rows):
                tr, ti = sums[h, i, k], sums[h, i, n + k]
                ur, ui = sums[h, i, 2 * n + k], sums[h, i, 3 * n + k]
                s0r += pr * tr - pi * ti
                s0i += pr * ti + pi * tr
                lag = i * columns
                s1r += lag * (qr * tr - qi * ti) + pr * ur - pi * ui
                s1i += lag * (qr * ti + qi * tr) + pr * ui + pi * ur
                qr, qi = pr * last_re - pi * last_im, pr * last_im + pi * last_re
                pr, pi = pr * mr - pi * mi, pr * mi + pi * mr
            dc[h, k, 0], dc[h, k, 1] = 2.0 * s0r, -2.0 * s0i
            cr, ci = c[h, k, 0], c[h, k, 1]
            dz[h, k, 0] = 2.0 * (cr * s1r - ci * s1i)
            dz[h, k, 1] = -2.0 * (cr * s1i + ci * s1r)
