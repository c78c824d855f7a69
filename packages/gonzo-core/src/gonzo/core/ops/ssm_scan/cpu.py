"""The recurrence over blocks of heads; the backward pass recomputes states from checkpoints.

Heads are the innermost dimension, so all loops are element by element over them: a vector register
holds several heads, and no sum has to be reordered. A row of work is a head; rows write disjoint
memory and need no locks.
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
_BLOCK = _U(256)  # heads whose system, at 32 pairs in float32, fits the second-level cache
_ALL = np.empty(0, np.int64)  # stands for "every step is valid"


def forward(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.ssm_scan`."""
    batch, time, heads = u.shape
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    final = state.clone(memory_format=torch.contiguous_format)
    arguments = (u.contiguous().numpy(), system.contiguous().numpy(), _steps(lengths))
    results = (y.numpy(), final.numpy())
    if batch * heads * time < _SMALL:
        _forward_rows(0, heads, *arguments, *results)
    else:
        run_rows(heads, _forward_rows, *arguments, *results)
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
    mixed = state.new_empty(every, heads)
    inputs = (t.contiguous().numpy() for t in (grad_y, u, state, system))
    written = (t.numpy() for t in (d_u, d_state, d_system, checkpoints, segment, mixed))
    run_rows(heads, _backward_rows, *inputs, _steps(lengths), *written)
    return d_u, d_state, d_system


def _steps(lengths: Tensor | None) -> np.ndarray:
    return _ALL if lengths is None else lengths.to(torch.int64).contiguous().numpy()


@kernel
def _forward_rows(start, stop, u, w, steps, y, x):
    time, kind = _U(u.shape[1]), w.dtype.type
    mixed, now = np.empty(w.shape[3], w.dtype), np.empty(w.shape[3], w.dtype)
    for i in range(_U(u.shape[0])):
        valid = _U(steps[i]) if steps.size else time
        for low in range(_U(start), _U(stop), _BLOCK):
            high = min(low + _BLOCK, _U(stop))
            for t in range(valid):
                for h in range(low, high):
                    now[h] = kind(u[i, t, h])
                _advance(low, high, x, i, w, now, mixed)
                _read(low, high, x, i, w, now)
                for h in range(low, high):
                    y[i, t, h] = now[h]
            for t in range(valid, time):
                for h in range(low, high):
                    y[i, t, h] = 0


@kernel(fastmath={"contract"})
def _advance(low, high, x, i, w, u, mixed):
    """x[i] becomes the next state of heads low … high; mixed becomes 2 Re⟨q, x⟩ of the old one."""
    rank_one = w.shape[0] == 5
    for h in range(low, high):
        mixed[h] = 0
    if rank_one:
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                q_x = w[_Q, _RE, n, h] * x[i, _RE, n, h] - w[_Q, _IM, n, h] * x[i, _IM, n, h]
                mixed[h] += 2 * q_x
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            re, im = x[i, _RE, n, h], x[i, _IM, n, h]
            a_re, a_im = w[_A, _RE, n, h], w[_A, _IM, n, h]
            x[i, _RE, n, h] = re + (a_re * re - a_im * im + w[_B, _RE, n, h] * u[h])
            x[i, _IM, n, h] = im + (a_re * im + a_im * re + w[_B, _IM, n, h] * u[h])
        if rank_one:
            for h in range(low, high):
                x[i, _RE, n, h] += w[_P, _RE, n, h] * mixed[h]
                x[i, _IM, n, h] += w[_P, _IM, n, h] * mixed[h]


@kernel(fastmath={"contract"})
def _read(low, high, x, i, w, y):
    for h in range(low, high):
        y[h] = 0
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            c_x = w[_C, _RE, n, h] * x[i, _RE, n, h] - w[_C, _IM, n, h] * x[i, _IM, n, h]
            y[h] += 2 * c_x


@kernel
def _backward_rows(start, stop, d_y, u, state, w, steps, d_u, d_x, dw, checkpoints, segment, mixed):
    time, kind = u.shape[1], w.dtype.type
    every = mixed.shape[0]
    scratch = np.empty((4, w.shape[3]), w.dtype)
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
                _advance(low, high, segment, _U(0), w, now, unread)
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
                    _advance(low, high, segment, _U(s + 1), w, now, mixed[s])
                for s in range(size - 1, -1, -1):
                    for h in range(low, high):
                        now[h] = kind(u[i, first + s, h])
                        d_now[h] = 2 * kind(d_y[i, first + s, h])
                    _retreat(
                        low, high, d_x, i, segment[s], segment[s + 1], w, now, mixed[s],
                        d_now, d_mixed, dw,
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
def _retreat(low, high, d_x, i, before, after, w, u, mixed, d_now, d_mixed, dw):
    """d_x[i] goes from dL/dx_t to dL/dx_{t-1}, adding to dw.

    before is x_{t-1}, after x_t; d_now is twice dL/dy_t and becomes dL/du_t.
    """
    rank_one = w.shape[0] == 5
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
    for n in range(_U(w.shape[2])):
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            d_now[h] += re * w[_B, _RE, n, h] + im * w[_B, _IM, n, h]
            dw[_B, _RE, n, h] += re * u[h]
            dw[_B, _IM, n, h] += im * u[h]
        if rank_one:
            for h in range(low, high):
                re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
                d_mixed[h] += 2 * (re * w[_P, _RE, n, h] + im * w[_P, _IM, n, h])
                dw[_P, _RE, n, h] += re * mixed[h]
                dw[_P, _IM, n, h] += im * mixed[h]
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            dw[_A, _RE, n, h] += re * before[_RE, n, h] + im * before[_IM, n, h]
            dw[_A, _IM, n, h] += im * before[_RE, n, h] - re * before[_IM, n, h]
        for h in range(low, high):
            re, im = d_x[i, _RE, n, h], d_x[i, _IM, n, h]
            d_x[i, _RE, n, h] += re * w[_A, _RE, n, h] + im * w[_A, _IM, n, h]
            d_x[i, _IM, n, h] += im * w[_A, _RE, n, h] - re * w[_A, _IM, n, h]
    if rank_one:
        for n in range(_U(w.shape[2])):
            for h in range(low, high):
                dw[_Q, _RE, n, h] += d_mixed[h] * before[_RE, n, h]
                dw[_Q, _IM, n, h] -= d_mixed[h] * before[_IM, n, h]
                d_x[i, _RE, n, h] += d_mixed[h] * w[_Q, _RE, n, h]
                d_x[i, _IM, n, h] -= d_mixed[h] * w[_Q, _IM, n, h]
