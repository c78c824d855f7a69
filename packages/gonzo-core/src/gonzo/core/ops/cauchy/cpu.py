"""Four Cauchy sums and the Woodbury correction fused over blocks of nodes, in float64 registers.

For one node g and one stored λ, write 1/(g-λ) and 1/(g-conj λ) as reals. Then each of the four sums
costs four multiply-adds on the shared α, β, γ, δ below:

    Re += vr·α + vi·β      Im += vi·γ - vr·δ

With P and Q of rank r the sums leave the registers, four at a time, and `low_rank` goes on.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows
from gonzo.core.ops.checks import check_finite

from . import low_rank
from .circle import Circle, circle, to_kernel, to_spectrum_gradient

# Indices are unsigned: signed ones might be negative, and Numba's wrap-around keeps loops scalar.
_U = np.uint64
_0, _1, _2, _3, _4, _5, _6, _7 = (_U(row) for row in range(8))
_NODES_AT_ONCE = 128  # accumulators of one block of nodes: 8 kB, in the first-level cache
_SPECTRUM_BYTES = 1 << 21  # spectra, or sums, of one block of heads


def forward(
    cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor, length: int, dtype: torch.dtype
) -> Tensor:
    """See `gonzo.core.ops.cauchy`."""
    check_finite("cauchy", cb=cb, cp=cp, qb=qb, qp=qp, w=w)
    on = circle(length, dtype, w.device)
    out = torch.empty(w.shape[0], length, dtype=dtype)
    if cp.ndim == 4:
        return _low_rank_forward(low_rank.stacked(cb, cp, qb, qp), w, cp.shape[1], on, out)
    v, w = _stack(cb, cp, qb, qp), w.double().contiguous()
    for block in _blocks(w.shape[0], on):
        spectrum = w.new_empty(block.stop - block.start, len(on.g), 2)
        run_rows(len(spectrum), _forward_rows, *_arrays(v[block], w[block], on, spectrum))
        out[block] = to_kernel(torch.view_as_complex(spectrum), on, dtype)
    return out


def backward(
    grad: Tensor, cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the five inputs, recomputing the sums."""
    on = circle(grad.shape[1], grad.dtype, w.device)
    if cp.ndim == 4:
        return _low_rank_backward(grad, low_rank.stacked(cb, cp, qb, qp), w, cp.shape[1], on)
    v, w64 = _stack(cb, cp, qb, qp), w.double().contiguous()
    dv, dw = torch.empty_like(v), torch.empty_like(w64)
    for block in _blocks(w.shape[0], on):
        spectrum = torch.view_as_real(to_spectrum_gradient(grad[block], on))
        arrays = _arrays(v[block], w64[block], on, spectrum)
        run_rows(len(spectrum), _backward_rows, *arrays, dv[block].numpy(), dw[block].numpy())
    # Copies, since outputs may not alias.
    return *(t.to(w.dtype, copy=True).contiguous() for t in dv.unbind(1)), dw.to(w.dtype)


def _low_rank_forward(v: Tensor, w: Tensor, rank: int, on: Circle, out: Tensor) -> Tensor:
    w = w.double()
    for block in _blocks(w.shape[0], on, v.shape[1]):
        out[block] = low_rank.kernel(_sums_of(v[block], w[block], on), rank, on, out.dtype)
    return out


def _low_rank_backward(
    grad: Tensor, v: Tensor, w: Tensor, rank: int, on: Circle
) -> tuple[Tensor, ...]:
    dv, dw, w64 = torch.empty_like(v), torch.empty(w.shape, dtype=w.dtype), w.double()
    for block in _blocks(w.shape[0], on, v.shape[1]):
        grads = low_rank.gradient(grad[block], _sums_of(v[block], w64[block], on), rank, on)
        rows = _as_heads(v[block], w64[block], on, grads)
        dw_rows = w64.new_empty(v[block].shape[:2] + w.shape[1:])
        run_rows(
            len(rows[0]), _accumulate_rows, *rows,
            dv[block].flatten(0, 1).numpy(), dw_rows.flatten(0, 1).numpy(),
        )  # fmt: skip
        dw[block] = dw_rows.sum(1)
    return *low_rank.unstacked(dv, rank, w.dtype), dw


def _sums_of(v: Tensor, w: Tensor, on: Circle) -> Tensor:
    """Sums of some heads, (heads, 4 · groups, nodes) complex."""
    sums = v.new_empty(len(v), 4 * v.shape[1], len(on.g), dtype=torch.complex128)
    rows = _as_heads(v, w, on, sums)
    run_rows(len(rows[0]), _sum_rows, *rows)
    return sums


def _as_heads(v: Tensor, w: Tensor, on: Circle, sums: Tensor) -> list[np.ndarray]:
    """What the loops take, with each group of four sums as a head of its own."""
    groups = v.shape[1]
    sums = torch.view_as_real(sums).unflatten(1, (groups, 4)).flatten(0, 1)
    tensors = (v.flatten(0, 1), w.repeat_interleave(groups, 0), torch.view_as_real(on.g), sums)
    return [t.numpy() for t in tensors]


def _stack(*pairs: Tensor) -> Tensor:
    return torch.stack(pairs, 1).double().contiguous()  # (H, 4, N, 2)


def _blocks(heads: int, on: Circle, groups: int = 0) -> list[slice]:
    """Heads at a time: of a spectrum each, or of so many groups of four sums."""
    least = torch.get_num_threads() // max(1, groups)
    step = max(1, least, _SPECTRUM_BYTES // (16 * len(on.g) * max(1, 4 * groups)))
    return [slice(start, min(start + step, heads)) for start in range(0, heads, step)]


def _arrays(v: Tensor, w: Tensor, on: Circle, spectrum: Tensor) -> list[np.ndarray]:
    real = torch.view_as_real
    return [t.contiguous().numpy() for t in (v, w, real(on.g), real(on.scale))] + [spectrum.numpy()]


@kernel(fastmath={"contract"})
def _sums(v, w, g, first, size, sums):
    """sums[2·i], sums[2·i+1] = Re, Im of the i-th Cauchy sum at nodes first … first+size."""
    sums[:, :size] = 0.0
    for n in range(w.shape[0]):
        wr, wi = w[n, 0], w[n, 1]
        v0r, v0i, v1r, v1i = v[0, n, 0], v[0, n, 1], v[1, n, 0], v[1, n, 1]
        v2r, v2i, v3r, v3i = v[2, n, 0], v[2, n, 1], v[3, n, 0], v[3, n, 1]
        for k in range(_U(size)):
            a = g[_0, first + k] - wr
            b, c = g[_1, first + k] - wi, g[_1, first + k] + wi
            x, y = a * a + b * b, a * a + c * c
            both = 1.0 / (x * y)  # one division for two reciprocals
            x, y = both * y, both * x
            alpha, gamma = a * (x + y), a * (x - y)
            beta, delta = b * x - c * y, b * x + c * y
            sums[_0, k] += v0r * alpha + v0i * beta
            sums[_1, k] += v0i * gamma - v0r * delta
            sums[_2, k] += v1r * alpha + v1i * beta
            sums[_3, k] += v1i * gamma - v1r * delta
            sums[_4, k] += v2r * alpha + v2i * beta
            sums[_5, k] += v2i * gamma - v2r * delta
            sums[_6, k] += v3r * alpha + v3i * beta
            sums[_7, k] += v3i * gamma - v3r * delta


@kernel
def _sum_rows(start, stop, v, w, g, out):
    """Sums alone, (heads, 4, nodes) complex as pairs."""
    nodes = g.shape[0]
    split = np.empty((2, nodes))
    for k in range(nodes):
        split[0, k], split[1, k] = g[k, 0], g[k, 1]
    sums = np.empty((8, _NODES_AT_ONCE))
    for h in range(start, stop):
        for first in range(0, nodes, _NODES_AT_ONCE):
            size = min(_NODES_AT_ONCE, nodes - first)
            _sums(v[h], w[h], split, _U(first), size, sums)
            for i in range(_U(4)):
                for k in range(_U(size)):
                    out[h, i, _U(first) + k, _0] = sums[_2 * i, k]
                    out[h, i, _U(first) + k, _1] = sums[_2 * i + _1, k]


@kernel
def _forward_rows(start, stop, v, w, g, scale, spectrum):
    nodes = g.shape[0]
    split = np.empty((2, nodes))
    for k in range(nodes):
        split[0, k], split[1, k] = g[k, 0], g[k, 1]
    sums = np.empty((8, _NODES_AT_ONCE))
    for h in range(start, stop):
        for first in range(0, nodes, _NODES_AT_ONCE):
            size = min(_NODES_AT_ONCE, nodes - first)
            _sums(v[h], w[h], split, _U(first), size, sums)
            for k in range(_U(size)):
                cb, cp = complex(sums[_0, k], sums[_1, k]), complex(sums[_2, k], sums[_3, k])
                qb, qp = complex(sums[_4, k], sums[_5, k]), complex(sums[_6, k], sums[_7, k])
                f = complex(scale[_U(first) + k, _0], scale[_U(first) + k, _1])
                value = f * (cb - cp * qb / (1.0 + qp))
                spectrum[h, _U(first) + k, _0], spectrum[h, _U(first) + k, _1] = (
                    value.real,
                    value.imag,
                )


@kernel
def _backward_rows(start, stop, v, w, g, scale, spectrum, dv, dw):
    """`spectrum` holds the gradient of K̂ here; gradients are dRe + i dIm throughout."""
    nodes = g.shape[0]
    split = np.empty((2, nodes))
    for k in range(nodes):
        split[0, k], split[1, k] = g[k, 0], g[k, 1]
    sums = np.empty((8, _NODES_AT_ONCE))
    for h in range(start, stop):
        dv[h] = 0.0
        dw[h] = 0.0
        for first in range(0, nodes, _NODES_AT_ONCE):
            size = min(_NODES_AT_ONCE, nodes - first)
            _sums(v[h], w[h], split, _U(first), size, sums)
            for k in range(_U(size)):  # sums becomes the gradient of the four sums
                cp, qb = complex(sums[_2, k], sums[_3, k]), complex(sums[_4, k], sums[_5, k])
                d = 1.0 / (1.0 + complex(sums[_6, k], sums[_7, k]))
                f = complex(scale[_U(first) + k, _0], scale[_U(first) + k, _1])
                top = (
                    complex(spectrum[h, _U(first) + k, _0], spectrum[h, _U(first) + k, _1])
                    * f.conjugate()
                )
                dcp, dqb = -top * (qb * d).conjugate(), -top * (cp * d).conjugate()
                dqp = top * (cp * qb * d * d).conjugate()
                sums[_0, k], sums[_1, k] = top.real, top.imag
                sums[_2, k], sums[_3, k] = dcp.real, dcp.imag
                sums[_4, k], sums[_5, k] = dqb.real, dqb.imag
                sums[_6, k], sums[_7, k] = dqp.real, dqp.imag
            _accumulate(v[h], w[h], split, _U(first), size, sums, dv[h], dw[h])


@kernel
def _accumulate_rows(start, stop, v, w, g, grads, dv, dw):
    """From gradients of sums, as `_sum_rows` writes sums, to those of v and w."""
    nodes = g.shape[0]
    split = np.empty((2, nodes))
    for k in range(nodes):
        split[0, k], split[1, k] = g[k, 0], g[k, 1]
    of_sums = np.empty((8, _NODES_AT_ONCE))
    for h in range(start, stop):
        dv[h] = 0.0
        dw[h] = 0.0
        for first in range(0, nodes, _NODES_AT_ONCE):
            size = min(_NODES_AT_ONCE, nodes - first)
            for i in range(_U(4)):
                for k in range(_U(size)):
                    of_sums[_2 * i, k] = grads[h, i, _U(first) + k, _0]
                    of_sums[_2 * i + _1, k] = grads[h, i, _U(first) + k, _1]
            _accumulate(v[h], w[h], split, _U(first), size, of_sums, dv[h], dw[h])


# The sums over nodes below have no order that matters: letting LLVM reorder them is what allows
# vector registers. NaN and infinity keep their meaning.
@kernel(fastmath={"contract", "reassoc"})
def _accumulate(v, w, g, first, size, grads, dv, dw):
    for n in range(w.shape[0]):
        wr, wi = w[n, 0], w[n, 1]
        v0r, v0i, v1r, v1i = v[0, n, 0], v[0, n, 1], v[1, n, 0], v[1, n, 1]
        v2r, v2i, v3r, v3i = v[2, n, 0], v[2, n, 1], v[3, n, 0], v[3, n, 1]
        d0r = d0i = d1r = d1i = d2r = d2i = d3r = d3i = dwr = dwi = 0.0
        for k in range(_U(size)):
            a = g[_0, first + k] - wr
            b, c = g[_1, first + k] - wi, g[_1, first + k] + wi
            x, y = a * a + b * b, a * a + c * c
            both = 1.0 / (x * y)
            x, y = both * y, both * x
            alpha, gamma = a * (x + y), a * (x - y)
            beta, delta = b * x - c * y, b * x + c * y
            g0r, g0i, g1r, g1i = grads[_0, k], grads[_1, k], grads[_2, k], grads[_3, k]
            g2r, g2i, g3r, g3i = grads[_4, k], grads[_5, k], grads[_6, k], grads[_7, k]
            d0r += g0r * alpha - g0i * delta
            d0i += g0r * beta + g0i * gamma
            d1r += g1r * alpha - g1i * delta
            d1i += g1r * beta + g1i * gamma
            d2r += g2r * alpha - g2i * delta
            d2i += g2r * beta + g2i * gamma
            d3r += g3r * alpha - g3i * delta
            d3i += g3r * beta + g3i * gamma
            # d/dλ 1/(g-λ) = 1/(g-λ)², weighted by Σ grad·conj(v); for conj λ by Σ grad·v,
            # conjugated.
            rr = g0r * v0r + g1r * v1r + g2r * v2r + g3r * v3r
            ii = g0i * v0i + g1i * v1i + g2i * v2i + g3i * v3i
            ir = g0i * v0r + g1i * v1r + g2i * v2r + g3i * v3r
            ri = g0r * v0i + g1r * v1i + g2r * v2i + g3r * v3i
            xx, yy = x * x, y * y
            pr, pi = (a * a - b * b) * xx, 2.0 * a * b * xx  # conj 1/(g-λ)²
            qr, qi = (a * a - c * c) * yy, -2.0 * a * c * yy  # 1/(g-conj λ)²
            dwr += pr * (rr + ii) - pi * (ir - ri) + qr * (rr - ii) + qi * (ir + ri)
            dwi += pr * (ir - ri) + pi * (rr + ii) - qr * (ir + ri) + qi * (rr - ii)
        dv[0, n, 0] += d0r
        dv[0, n, 1] += d0i
        dv[1, n, 0] += d1r
        dv[1, n, 1] += d1i
        dv[2, n, 0] += d2r
        dv[2, n, 1] += d2i
        dv[3, n, 0] += d3r
        dv[3, n, 1] += d3i
        dw[n, 0] += dwr
        dw[n, 1] += dwi
