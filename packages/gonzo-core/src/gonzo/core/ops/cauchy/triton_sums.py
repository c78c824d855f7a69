"""Cauchy sums in Triton: a conjugate pair of poles is one real fraction of the node, in float64.

With D = (g-λ)(g-λ*) and r = 1/D, one complex reciprocal serves both poles, and it needs no v:

    v/(g-λ) + v*/(g-λ*) = 2 (Re(v) g - Re(v λ*)) r        k(g) = 2 (g Σ Re(v) r - Σ Re(v λ*) r)

so each of the four sums adds two real multiples of r. Each term loses nothing to that: with
Re λ < 0 < Re g, |g| and |λ| are at most |g-λ| + |g-λ*|. D is formed from g - λ, never as a
polynomial in g. A program owns some nodes of one head, keeps its sums in registers, applies
Woodbury and 2/(1+ζ), and writes K̂ once; the FFTs stay in torch.

Backward: the first kernel sums again and writes G, the gradients of the four sums, at each node.
The second owns some modes and a span of nodes and needs, with H = conj(G) g and per sum,

    X = Σ Re(conj(G) r)   Y = Σ Re(H r) - Re(λ) X   R = Σ Re(conj(G) r²)   S = Σ Re(H r²) - Re(λ) R
    dRe v = 2 Y           dRe λ = Σ_v 2 Re(v) X - 4 Im(λ) (Re(v) Im(λ) R + Im(v) S)
    dIm v = -2 Im(λ) X    dIm λ = Σ_v -2 Im(v) X - 4 Im(λ) (Re(v) S - Im(v) Im(λ) R)

A last kernel adds the spans in a fixed order. One kernel for both would reduce sixteen sums over
its threads for every mode, which costs more than to read G again.

With P and Q of rank r `sums_at_nodes` writes the sums themselves, and `low_rank` forms G.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from gonzo.core.triton_kernels import tuned

# Of each mode, in float64: λ, Re(v) of the four sums, Re(v λ*), Im(v).
WORDS = tl.constexpr(14)


@triton.jit
def _times(ar, ai, br, bi):
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def _row(rows, i: tl.constexpr):
    """Row i of (4, size), which lies in the registers of one thread."""
    return tl.sum(tl.where(tl.arange(0, 4)[:, None] == i, rows, 0.0), 0)


@triton.jit
def _reciprocal(gr, gi, wr, wi):
    """1 / ((g-λ)(g-λ*)), with one real division."""
    a = gr - wr
    dr, di = a * a - (gi - wi) * (gi + wi), 2 * gi * a
    inverse = 1.0 / (dr * dr + di * di)
    return dr * inverse, -di * inverse


@triton.jit
def prepare(cb, cp, qb, qp, w, modes, size, SIZE: tl.constexpr):
    """What the other kernels read of each mode: `WORDS`."""
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    mask = i < size
    at = modes + i * WORDS
    wr = tl.load(w + 2 * i, mask, 0.0).to(tl.float64)
    wi = tl.load(w + 2 * i + 1, mask, 0.0).to(tl.float64)
    tl.store(at, wr, mask)
    tl.store(at + 1, wi, mask)
    _prepare_one(cb, at + 2, i, wr, wi, mask)
    _prepare_one(cp, at + 3, i, wr, wi, mask)
    _prepare_one(qb, at + 4, i, wr, wi, mask)
    _prepare_one(qp, at + 5, i, wr, wi, mask)


@triton.jit
def _prepare_one(v, at, i, wr, wi, mask):
    vr = tl.load(v + 2 * i, mask, 0.0).to(tl.float64)
    vi = tl.load(v + 2 * i + 1, mask, 0.0).to(tl.float64)
    tl.store(at, vr, mask)
    tl.store(at + 4, vr * wr + vi * wi, mask)
    tl.store(at + 8, vi, mask)


@triton.jit
def _four_sums(modes, g, n, nodes, NODES: tl.constexpr):
    """The head and the nodes of this program, and real and imaginary parts (4, NODES) of sums."""
    blocks = tl.cdiv(nodes, NODES)
    program = tl.program_id(0).to(tl.int64)
    head, block = program // blocks, program % blocks
    k = block * NODES + tl.arange(0, NODES)
    mask = k < nodes
    gr, gi = tl.load(g + 2 * k, mask, 1.0), tl.load(g + 2 * k + 1, mask, 0.0)
    at = modes + head * n * WORDS
    four = tl.arange(0, 4)[:, None]
    pr = tl.full([4, NODES], 0.0, tl.float64)
    pi, qr, qi = pr, pr, pr
    for _ in range(n):
        rr, ri = _reciprocal(gr, gi, tl.load(at), tl.load(at + 1))
        rr, ri = rr[None, :], ri[None, :]
        v, u = tl.load(at + 2 + four), tl.load(at + 6 + four)
        pr += v * rr
        pi += v * ri
        qr += u * rr
        qi += u * ri
        at += WORDS
    pr, pi = _times(pr, pi, gr[None, :], gi[None, :])
    return head, k, 2 * (pr - qr), 2 * (pi - qi)


@triton.jit(do_not_specialize=["octave"])
def sums_at_nodes(modes, g, sums, n, nodes, octave, NODES: tl.constexpr):
    """The four sums at some nodes of one head, (heads, 4, nodes, 2)."""
    head, k, sr, si = _four_sums(modes, g, n, nodes, NODES)
    mask = (k < nodes)[None, :]
    at = sums + ((4 * head + tl.arange(0, 4)[:, None]) * nodes + k[None, :]) * 2
    tl.store(at, sr, mask)
    tl.store(at + 1, si, mask)


@triton.jit(do_not_specialize=["octave"])
def at_nodes(
    modes, g, scale, spectrum, out, n, nodes, octave,
    NODES: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """K̂ at some nodes of one head; backward, from its gradient those of the four sums."""
    head, k, sr, si = _four_sums(modes, g, n, nodes, NODES)
    mask = k < nodes
    cpr, cpi, qbr, qbi = _row(sr, 1), _row(si, 1), _row(sr, 2), _row(si, 2)
    dr, di = 1 + _row(sr, 3), _row(si, 3)
    inverse = 1.0 / (dr * dr + di * di)
    dr, di = dr * inverse, -di * inverse
    fr, fi = tl.load(scale + 2 * k, mask, 0.0), tl.load(scale + 2 * k + 1, mask, 0.0)
    at = spectrum + (head * nodes + k) * 2
    if BACKWARD:
        tr, ti = tl.load(at, mask, 0.0), tl.load(at + 1, mask, 0.0)
        tr, ti = _times(tr, ti, fr, -fi)
        qbr, qbi = _times(qbr, qbi, dr, di)
        ar, ai = _times(tr, ti, -qbr, qbi)
        qbr, qbi = _times(qbr, qbi, cpr, cpi)
        cpr, cpi = _times(cpr, cpi, dr, di)
        br, bi = _times(tr, ti, -cpr, cpi)
        qbr, qbi = _times(qbr, qbi, dr, di)
        er, ei = _times(tr, ti, qbr, -qbi)
        at = out + head * 8 * nodes + k
        tl.store(at, tr, mask)
        tl.store(at + nodes, ti, mask)
        tl.store(at + 2 * nodes, ar, mask)
        tl.store(at + 3 * nodes, ai, mask)
        tl.store(at + 4 * nodes, br, mask)
        tl.store(at + 5 * nodes, bi, mask)
        tl.store(at + 6 * nodes, er, mask)
        tl.store(at + 7 * nodes, ei, mask)
    else:
        cpr, cpi = _times(cpr, cpi, qbr, qbi)
        cpr, cpi = _times(cpr, cpi, dr, di)
        kr, ki = _times(_row(sr, 0) - cpr, _row(si, 0) - cpi, fr, fi)
        tl.store(at, kr, mask)
        tl.store(at + 1, ki, mask)


@triton.jit(do_not_specialize=["octave"])
def sum_over_nodes(
    modes, g, of_sums, sums, n, nodes, spans, span, octave,
    MODES: tl.constexpr, NODES: tl.constexpr,
):  # fmt: skip
    """X, Y, R and S of some modes over a span of nodes, Y and S without their second term."""
    groups = tl.cdiv(n, MODES)
    program = tl.program_id(0).to(tl.int64)
    group, part, head = program % groups, program // groups % spans, program // groups // spans
    m = group * MODES + tl.arange(0, MODES)[:, None]
    at = modes + (head * n + m) * WORDS
    wr, wi = tl.load(at, m < n, 0.0), tl.load(at + 1, m < n, 0.0)
    of_sums += head * 8 * nodes
    zero = tl.full([MODES, NODES], 0.0, tl.float64)
    x0, y0, r0, s0 = zero, zero, zero, zero
    x1, y1, r1, s1 = zero, zero, zero, zero
    x2, y2, r2, s2 = zero, zero, zero, zero
    x3, y3, r3, s3 = zero, zero, zero, zero
    for first in range(0, span, NODES):
        k = part * span + first + tl.arange(0, NODES)[None, :]
        mask = k < nodes
        gr, gi = tl.load(g + 2 * k, mask, 1.0), tl.load(g + 2 * k + 1, mask, 0.0)
        rr, ri = _reciprocal(gr, gi, wr, wi)
        qr, qi = _times(rr, ri, rr, ri)
        grad = of_sums + k
        x0, y0, r0, s0 = _add(x0, y0, r0, s0, grad, nodes, mask, gr, gi, rr, ri, qr, qi)
        grad += 2 * nodes
        x1, y1, r1, s1 = _add(x1, y1, r1, s1, grad, nodes, mask, gr, gi, rr, ri, qr, qi)
        grad += 2 * nodes
        x2, y2, r2, s2 = _add(x2, y2, r2, s2, grad, nodes, mask, gr, gi, rr, ri, qr, qi)
        grad += 2 * nodes
        x3, y3, r3, s3 = _add(x3, y3, r3, s3, grad, nodes, mask, gr, gi, rr, ri, qr, qi)
    at = sums + (head * spans + part) * 16 * n + m
    _store_sums(at, n, m < n, x0, y0, r0, s0)
    _store_sums(at + n, n, m < n, x1, y1, r1, s1)
    _store_sums(at + 2 * n, n, m < n, x2, y2, r2, s2)
    _store_sums(at + 3 * n, n, m < n, x3, y3, r3, s3)


@triton.jit
def _add(x, y, r, s, grad, nodes, mask, gr, gi, rr, ri, qr, qi):
    """Add what one of the four sums contributes at some nodes; q = r²."""
    vr, vi = tl.load(grad, mask, 0.0), tl.load(grad + nodes, mask, 0.0)
    hr, hi = _times(vr, -vi, gr, gi)
    return (
        x + vr * rr + vi * ri,
        y + hr * rr - hi * ri,
        r + vr * qr + vi * qi,
        s + hr * qr - hi * qi,
    )


@triton.jit
def _store_sums(at, n, mask, x, y, r, s):
    tl.store(at, tl.sum(x, 1, True), mask)
    tl.store(at + 4 * n, tl.sum(y, 1, True), mask)
    tl.store(at + 8 * n, tl.sum(r, 1, True), mask)
    tl.store(at + 12 * n, tl.sum(s, 1, True), mask)


@triton.jit
def combine(modes, sums, cb, cp, qb, qp, w, size, n, spans, SIZE: tl.constexpr):
    """Add X, Y, R and S of all spans, and write the gradients of the four v and of w."""
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)[None, :]
    mask = i < size
    four = tl.arange(0, 4)[:, None]
    at = sums + (i // n) * spans * 16 * n + four * n + i % n
    x = tl.full([4, SIZE], 0.0, tl.float64)
    y, r, s = x, x, x
    for _ in range(spans):
        x += tl.load(at, mask, 0.0)
        y += tl.load(at + 4 * n, mask, 0.0)
        r += tl.load(at + 8 * n, mask, 0.0)
        s += tl.load(at + 12 * n, mask, 0.0)
        at += 16 * n
    at = modes + i * WORDS
    wr, wi = tl.load(at, mask, 0.0), tl.load(at + 1, mask, 0.0)
    vr, vi = tl.load(at + 2 + four, mask, 0.0), tl.load(at + 10 + four, mask, 0.0)
    y, s, r = y - wr * x, s - wr * r, wi * r
    tl.store(w + 2 * i, tl.sum(2 * vr * x - 4 * wi * (vr * r + vi * s), 0, True), mask)
    tl.store(w + 2 * i + 1, tl.sum(-2 * vi * x - 4 * wi * (vr * s - vi * r), 0, True), mask)
    y, x = 2 * y, -2 * wi * x
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    _store_one(cb, i, i < size, _row(y, 0), _row(x, 0))
    _store_one(cp, i, i < size, _row(y, 1), _row(x, 1))
    _store_one(qb, i, i < size, _row(y, 2), _row(x, 2))
    _store_one(qp, i, i < size, _row(y, 3), _row(x, 3))


@triton.jit
def _store_one(v, i, mask, vr, vi):
    tl.store(v + 2 * i, vr, mask)
    tl.store(v + 2 * i + 1, vi, mask)


def _config(warps: int, **constants: Any) -> triton.Config:
    # Nothing is read often enough to be worth staging.
    return triton.Config(constants, num_warps=warps, num_stages=1)


# Measured once for each n and octave of nodes, not for each length.
_KEY = ["n", "octave"]
at_nodes = tuned([_config(4, NODES=128), _config(4, NODES=256)], _KEY)(at_nodes)
sums_at_nodes = tuned([_config(4, NODES=128), _config(4, NODES=256)], _KEY)(sums_at_nodes)
sum_over_nodes = tuned([_config(4, MODES=16, NODES=32), _config(4, MODES=8, NODES=32)], _KEY)(
    sum_over_nodes
)
