"""The recurrence over blocks of heads; the backward pass recomputes states from checkpoints.

Heads are the innermost dimension, so all loops are element by element over them: a vector register
holds several heads, and no sum has to be reordered. A row of work is a head; rows write disjoint
memory and need no locks.

A second p and q are an argument of their own, or None: Numba then compiles the loops without them,
and rank one costs what it would alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows
from gonzo.core.ops.checks import check_finite

_SMALL = 1 << 12  # below this many (batch, step, head) a second thread costs more than it brings
# Indices are unsigned: signed ones might be negative, and Numba's wrap-around keeps loops scalar.
_U = np.uint64
_RE, _IM = _U(0), _U(1)
_A, _B, _C, _P, _Q = _U(0), _U(1), _U(2), _U(3), _U(4)
_P2, _Q2 = _U(0), _U(1)
_BLOCK = _U(256)  # heads whose system, at 32 pairs in float32, fits the second-level cache
_ALL = np.empty(0, np.int64)  # stands for "every step is valid"


def forward(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.ssm_scan`."""
    batch, time, heads = u.shape
    u = u.contiguous()
    y = torch.empty_like(u)
    final = state.clone(memory_format=torch.contiguous_format)
    w = system.contiguous().numpy()
    loop, vectors = (_forward_rows, (w,)) if len(w) < 7 else (_forward_rows_of_two, _split(w))
    arguments = (u.numpy(), *vectors, _steps(lengths), y.numpy(), final.numpy())
    if batch * heads * time < _SMALL:
        loop(0, heads, *arguments)
    else:
        run_rows(heads, loop, *arguments)
    # Reading y costs far less than reading the system. A single step has no time even for that.
    if time > 1 and not math.isfinite(y.sum().item()):
        check_finite("ssm_scan", system=system)
    return y, final


def backward(
    grad_y: Tensor,
    grad_state: Tensor,
    u: Tensor,
    state: Tensor,
    system: Tensor,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of u, state and system."""
    time, heads = u.shape[1:]
    d_u = torch.empty(u.shape, dtype=u.dtype)
    d_system = torch.zeros(system.shape, dtype=state.dtype)
    d_state = grad_state.clone(memory_format=torch.contiguous_format)
    every = max(1, math.isqrt(time))
    checkpoints = state.new_empty(-(-time // every), *state.shape[1:])
    segment = state.new_empty(every + 1, *state.shape[1:])
    mixed = state.new_empty(every, (2 if len(system) == 7 else 1) * heads)
    inputs = (t.contiguous().numpy() for t in (grad_y, u, state))
    scratch = (t.numpy() for t in (checkpoints, segment, mixed))
    run_rows(
        heads, _backward_rows, *inputs, *_split(system.contiguous().numpy()), _steps(lengths),
        d_u.numpy(), d_state.numpy(), *_split(d_system.numpy()), *scratch,
    )  # fmt: skip
    return d_u, d_state, d_system


def _split(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The vectors as far as p and q, and the second p and q."""
    return (vectors, None) if len(vectors) < 7 else (vectors[:5], vectors[5:])


def _steps(lengths: Tensor | None) -> np.ndarray:
    return _ALL if lengths is None else lengths.to(torch.int64).contiguous().numpy()


@kernel
def _forward_rows(start, stop, u, w, steps, y, x):
    # Here None is known to the compiler; a call from Python takes 1 to 2 µs longer with it.
    _forward_rows_of_two(start, stop, u, w, None, steps, y, x)


@kernel
def _forward_rows_of_two(start, stop, u, w, second, steps, y, x):
    time, kind = _U(u.shape[1]), w.dtype.type
    mixed, now = np.empty(2 * w.shape[3], w.dtype), np.empty(w.shape[3], w.dtype)
    for i in range(_U(u.shape[0])):
        valid = _U(steps[i]) if steps.size else time
        for low in range(_U(start), _U(stop), _BLOCK):
            high = min(low + _BLOCK, _U(stop))
            for t in range(valid):
                for h in range(low, high):
                    now[h] = kind(u[i, t, h])
                _advance(low, high, x, i, w, second, now, mixed)
                _read(low, high, x, i, w, now)
                for h in range(low, high):
                    y[i, t, h] = now[h]
            for t in range(valid, time):
                for h in range(low, high):
                    y[i, t, h] = 0


@kernel(fastmath={"contract"})
def _advance(low, high, x, i, w, second, u, mixed):
    """x[i] becomes the next state of heads low … high; mixed becomes 2 Re⟨q, x⟩ of the old one.

    Behind those of all heads, mixed has those with the second q.
    """
    low_rank = w.shape[0] == 5
    for h in range(low, high):
        mixed[h] = 0
    if low_rank:
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                q_x = w[_Q, _RE, n, h] * x[i, _RE, n, h] - w[_Q, _IM, n, h] * x[i, _IM, n, h]
                mixed[h] += 2 * q_x
    if second is not None:
        behind = _U(w.shape[3])
        for h in range(low, high):
            mixed[behind + h] = 0
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                re, im = x[i, _RE, n, h], x[i, _IM, n, h]
                mixed[behind + h] += 2 * (second[_Q2, _RE, n, h] * re - second[_Q2, _IM, n, h] * im)
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            re, im = x[i, _RE, n, h], x[i, _IM, n, h]
            a_re, a_im = w[_A, _RE, n, h], w[_A, _IM, n, h]
            x[i, _RE, n, h] = re + (a_re * re - a_im * im + w[_B, _RE, n, h] * u[h])
            x[i, _IM, n, h] = im + (a_re * im + a_im * re + w[_B, _IM, n, h] * u[h])
        if low_rank:
            for h in range(low, high):
                x[i, _RE, n, h] += w[_P, _RE, n, h] * mixed[h]
                x[i, _IM, n, h] += w[_P, _IM, n, h] * mixed[h]
        if second is not None:
            behind = _U(w.shape[3])
            for h in range(low, high):
                x[i, _RE, n, h] += second[_P2, _RE, n, h] * mixed[behind + h]
                x[i, _IM, n, h] += second[_P2, _IM, n, h] * mixed[behind + h]


@kernel(fastmath={"contract"})
def _read(low, high, x, i, w, y):
    for h in range(low, high):
        y[h] = 0
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            c_x = w[_C, _RE, n, h] * x[i, _RE, n, h] - w[_C, _IM, n, h] * x[i, _IM, n, h]
            y[h] += 2 * c_x


@kernel
def _backward_rows(
    start, stop, d_y, u, state, w, second, steps,
    d_u, d_x, dw, d_second, checkpoints, segment, mixed,
):  # fmt: skip
    time, kind = u.shape[1], w.dtype.type
    every = mixed.shape[0]
    scratch = np.empty((4, mixed.shape[1]), w.dtype)
    now, d_now, d_mixed, unread = scratch[0], scratch[1], scratch[2], scratch[3]
    for i in range(_U(u.shape[0])):
        valid = steps[i] if steps.size else time
        for low in range(_U(start), _U(stop), _BLOCK):
            high = min(low + _BLOCK, _U(stop))
            x = segment[0]
            _copy(low, high, state[i], x)
            for t in range(valid):
                if t % every == 0:
                    _copy(low, high, x, checkpoints[t // every])
                for h in range(low, high):
                    now[h] = kind(u[i, t, h])
                _advance(low, high, segment, _U(0), w, second, now, unread)
            for t in range(valid, time):
                for h in range(low, high):
                    d_u[i, t, h] = 0
            for first in range((valid - 1) // every * every, -1, -every):
                size = min(every, valid - first)
                _copy(low, high, checkpoints[first // every], x)
                for s in range(size):
                    _copy(low, high, segment[s], segment[s + 1])
                    for h in range(low, high):
                        now[h] = kind(u[i, first + s, h])
                    _advance(low, high, segment, _U(s + 1), w, second, now, mixed[s])
                for s in range(size - 1, -1, -1):
                    for h in range(low, high):
                        now[h] = kind(u[i, first + s, h])
                        d_now[h] = 2 * kind(d_y[i, first + s, h])
                    _retreat(
                        low, high, d_x, i, segment[s], segment[s + 1], w, second, now, mixed[s],
                        d_now, d_mixed, dw, d_second,
                    )  # fmt: skip
                    for h in range(low, high):
                        d_u[i, first + s, h] = d_now[h]


@kernel
def _copy(low, high, source, target):
    for part in range(_U(2)):
        for n in range(_U(source.shape[1])):
            for h in range(low, high):
                target[part, n, h] = source[part, n, h]


@kernel(fastmath={"contract"})
def _retreat(
    low, high, d_x, i, before, after, w, second, u, mixed, d_now, d_mixed, dw, d_second
):  # fmt: skip
    """d_x[i] goes from dL/dx_t to dL/dx_{t-1}, adding to dw and d_second.

    before is x_{t-1}, after x_t, mixed as `_advance` leaves it; d_now is twice dL/dy_t and becomes
    dL/du_t.
    """
    low_rank = w.shape[0] == 5
    for n in range(_U(w.shape[2])):  # what y_t hands back
        for h in range(low, high):
            d_x[i, _RE, n, h] += d_now[h] * w[_C, _RE, n, h]
            d_x[i, _IM, n, h] -= d_now[h] * w[_C, _IM, n, h]
        for h in range(low, high):
            dw[_C, _RE, n, h] += d_now[h] * after[_RE, n, h]
            dw[_C, _IM, n, h] -= d_now[h] * after[_IM, n, h]
    for h in range(low, high):
        d_now[h] = 0
        d_mixed[h] = 0
    if second is not None:
        for h in range(low, high):
            d_mixed[_U(w.shape[3]) + h] = 0
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            d_now[h] += re * w[_B, _RE, n, h] + im * w[_B, _IM, n, h]
            dw[_B, _RE, n, h] += re * u[h]
            dw[_B, _IM, n, h] += im * u[h]
        if low_rank:
            for h in range(low, high):
                re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
                d_mixed[h] += 2 * (re * w[_P, _RE, n, h] + im * w[_P, _IM, n, h])
                dw[_P, _RE, n, h] += re * mixed[h]
                dw[_P, _IM, n, h] += im * mixed[h]
        if second is not None:
            behind = _U(w.shape[3])
            for h in range(low, high):
                re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
                p_x = re * second[_P2, _RE, n, h] + im * second[_P2, _IM, n, h]
                d_mixed[behind + h] += 2 * p_x
                d_second[_P2, _RE, n, h] += re * mixed[behind + h]
                d_second[_P2, _IM, n, h] += im * mixed[behind + h]
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            dw[_A, _RE, n, h] += re * before[_RE, n, h] + im * before[_IM, n, h]
            dw[_A, _IM, n, h] += im * before[_RE, n, h] - re * before[_IM, n, h]
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            d_x[i, _RE, n, h] += re * w[_A, _RE, n, h] + im * w[_A, _IM, n, h]
            d_x[i, _IM, n, h] += im * w[_A, _RE, n, h] - re * w[_A, _IM, n, h]
    if low_rank:
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                dw[_Q, _RE, n, h] += d_mixed[h] * before[_RE, n, h]
                dw[_Q, _IM, n, h] -= d_mixed[h] * before[_IM, n, h]
                d_x[i, _RE, n, h] += d_mixed[h] * w[_Q, _RE, n, h]
                d_x[i, _IM, n, h] -= d_mixed[h] * w[_Q, _IM, n, h]
    if second is not None:
        behind = _U(w.shape[3])
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                d_second[_Q2, _RE, n, h] += d_mixed[behind + h] * before[_RE, n, h]
                d_second[_Q2, _IM, n, h] -= d_mixed[behind + h] * before[_IM, n, h]
                d_x[i, _RE, n, h] += d_mixed[behind + h] * second[_Q2, _RE, n, h]
                d_x[i, _IM, n, h] -= d_mixed[behind + h] * second[_Q2, _IM, n, h]
