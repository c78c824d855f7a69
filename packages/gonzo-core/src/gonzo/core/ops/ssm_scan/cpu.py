"""The recurrence with its state in cache; the backward pass recomputes states from checkpoints.

Forward, a row is one head of one batch element. Backward, a row is one head, because the gradient
of the system sums over the batch: rows write disjoint memory and need no locks.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows
from gonzo.core.ops.checks import check_finite

_SMALL = 1 << 12  # below this many (row, step) pairs a second thread costs more than it brings

# Inner products over n have no order that matters: letting LLVM reorder them is what allows vector
# registers. NaN and infinity keep their meaning.
_REORDER = {"contract", "reassoc"}
# Indices are unsigned: signed ones might be negative, and then Numba's wrap-around keeps loops
# scalar.
_U = np.uint64
_RE, _IM = _U(0), _U(1)
_A, _B, _C, _P, _Q = _U(0), _U(1), _U(2), _U(3), _U(4)
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
        _forward_rows(0, batch * heads, *arguments, *results)
    else:
        run_rows(batch * heads, _forward_rows, *arguments, *results)
    if not math.isfinite(y.sum().item()):  # reading y costs far less than reading the system
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
    du, d_system = torch.empty(u.shape, dtype=u.dtype), torch.empty(system.shape, dtype=state.dtype)
    d_state = grad_state.clone(memory_format=torch.contiguous_format)
    every = max(1, math.isqrt(u.shape[1]))
    inputs = (t.contiguous().numpy() for t in (grad_y, u, state, system))
    outputs = (t.numpy() for t in (du, d_state, d_system))
    run_rows(u.shape[2], _backward_rows, *inputs, _steps(lengths), every, *outputs)
    return du, d_state, d_system


def _steps(lengths: Tensor | None) -> np.ndarray:
    return _ALL if lengths is None else lengths.to(torch.int64).contiguous().numpy()


@kernel(fastmath=_REORDER)
def _advance(x, i, h, w, u):
    """x[i, h] becomes the next state; returns 2 Re⟨q, x⟩ of the old one and y."""
    mixed = y = x[i, h, _RE, _RE] * 0
    if w.shape[1] == 5:
        for n in range(_U(w.shape[3])):
            mixed += w[h, _Q, _RE, n] * x[i, h, _RE, n] - w[h, _Q, _IM, n] * x[i, h, _IM, n]
        mixed *= 2
        for n in range(_U(w.shape[3])):
            re, im = x[i, h, _RE, n], x[i, h, _IM, n]
            new_re = w[h, _A, _RE, n] * re - w[h, _A, _IM, n] * im + w[h, _B, _RE, n] * u
            new_im = w[h, _A, _RE, n] * im + w[h, _A, _IM, n] * re + w[h, _B, _IM, n] * u
            new_re += w[h, _P, _RE, n] * mixed
            new_im += w[h, _P, _IM, n] * mixed
            x[i, h, _RE, n], x[i, h, _IM, n] = new_re, new_im
            y += w[h, _C, _RE, n] * new_re - w[h, _C, _IM, n] * new_im
    else:
        for n in range(_U(w.shape[3])):
            re, im = x[i, h, _RE, n], x[i, h, _IM, n]
            new_re = w[h, _A, _RE, n] * re - w[h, _A, _IM, n] * im + w[h, _B, _RE, n] * u
            new_im = w[h, _A, _RE, n] * im + w[h, _A, _IM, n] * re + w[h, _B, _IM, n] * u
            x[i, h, _RE, n], x[i, h, _IM, n] = new_re, new_im
            y += w[h, _C, _RE, n] * new_re - w[h, _C, _IM, n] * new_im
    return mixed, 2 * y


@kernel
def _forward_rows(start, stop, u, w, steps, y, x):
    heads, time = _U(w.shape[0]), _U(u.shape[1])
    for row in range(_U(start), _U(stop)):
        i, h = row // heads, row % heads
        valid = _U(steps[i]) if steps.size else time
        for t in range(valid):
            y[i, t, h] = _advance(x, i, h, w, w.dtype.type(u[i, t, h]))[1]
        for t in range(valid, time):
            y[i, t, h] = 0


@kernel(fastmath=_REORDER)
def _retreat(d_x, i, h, x, s, w, u, mixed, d_y, dw):
    """d_x[i, h] goes from dL/dx_t to dL/dx_{t-1}, adding to dw; returns dL/du_t.

    x[s + 1, 0] is x_t and x[s, 0] is x_{t-1}.
    """
    d_u = d_mixed = d_x[i, h, _RE, _RE] * 0
    rank_one = w.shape[1] == 5
    now, zero = s + _U(1), _U(0)
    for n in range(_U(w.shape[3])):
        re = d_x[i, h, _RE, n] + 2 * d_y * w[h, _C, _RE, n]
        im = d_x[i, h, _IM, n] - 2 * d_y * w[h, _C, _IM, n]
        d_u += re * w[h, _B, _RE, n] + im * w[h, _B, _IM, n]
        if rank_one:
            d_mixed += re * w[h, _P, _RE, n] + im * w[h, _P, _IM, n]
        d_x[i, h, _RE, n], d_x[i, h, _IM, n] = re, im
    for n in range(_U(w.shape[3])):
        dw[h, _C, _RE, n] += 2 * d_y * x[now, zero, _RE, n]
        dw[h, _C, _IM, n] -= 2 * d_y * x[now, zero, _IM, n]
    for n in range(_U(w.shape[3])):
        dw[h, _B, _RE, n] += d_x[i, h, _RE, n] * u
        dw[h, _B, _IM, n] += d_x[i, h, _IM, n] * u
    for n in range(_U(w.shape[3])):
        re, im = d_x[i, h, _RE, n], d_x[i, h, _IM, n]
        dw[h, _A, _RE, n] += re * x[s, zero, _RE, n] + im * x[s, zero, _IM, n]
        dw[h, _A, _IM, n] += im * x[s, zero, _RE, n] - re * x[s, zero, _IM, n]
    if rank_one:
        for n in range(_U(w.shape[3])):
            dw[h, _P, _RE, n] += d_x[i, h, _RE, n] * mixed
            dw[h, _P, _IM, n] += d_x[i, h, _IM, n] * mixed
        for n in range(_U(w.shape[3])):
            dw[h, _Q, _RE, n] += 2 * d_mixed * x[s, zero, _RE, n]
            dw[h, _Q, _IM, n] -= 2 * d_mixed * x[s, zero, _IM, n]
    for n in range(_U(w.shape[3])):
        re, im = d_x[i, h, _RE, n], d_x[i, h, _IM, n]
        d_x[i, h, _RE, n] = re * w[h, _A, _RE, n] + im * w[h, _A, _IM, n]
        d_x[i, h, _IM, n] = im * w[h, _A, _RE, n] - re * w[h, _A, _IM, n]
    if rank_one:
        for n in range(_U(w.shape[3])):
            d_x[i, h, _RE, n] += 2 * d_mixed * w[h, _Q, _RE, n]
            d_x[i, h, _IM, n] -= 2 * d_mixed * w[h, _Q, _IM, n]
    return d_u


@kernel
def _backward_rows(start, stop, d_y, u, state, w, steps, every, d_u, d_x, dw):
    batch, time, _ = u.shape
    n = w.shape[3]
    kind = w.dtype.type
    zero = _U(0)
    checkpoints = np.empty((time // every + 1, 2, n), w.dtype)
    x = np.empty((every + 1, 1, 2, n), w.dtype)  # a segment's states, shaped as of one head
    mixed = np.empty(every, w.dtype)
    for head in range(start, stop):
        h = _U(head)
        own = w[head : head + 1]  # the system of that one head
        dw[head] = 0
        for batch_element in range(batch):
            i = _U(batch_element)
            valid = steps[batch_element] if steps.size else time
            x[0, 0] = state[i, h]
            for t in range(valid):
                if t % every == 0:
                    checkpoints[t // every] = x[0, 0]
                _advance(x, zero, zero, own, kind(u[i, t, h]))
            for t in range(valid, time):
                d_u[i, t, h] = 0
            for segment in range((valid - 1) // every, -1, -1):
                first = segment * every
                size = min(every, valid - first)
                x[0, 0] = checkpoints[segment]
                for s in range(size):
                    x[s + 1, 0] = x[s, 0]
                    mixed[s] = _advance(x, _U(s + 1), zero, own, kind(u[i, first + s, h]))[0]
                for s in range(size - 1, -1, -1):
                    t = first + s
                    d_u[i, t, h] = _retreat(
                        d_x, i, h, x, _U(s), w, kind(u[i, t, h]), mixed[s], kind(d_y[i, t, h]), dw
                    )
