"""Numba loops that stream over time once: the previous state is still in cache when it is needed.

Arrays are flat and offsets unsigned: Numba then emits neither the wrap-around of negative indices
nor reference counts of row views, and the inner loops over features become vector code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gonzo.core.numba_kernels import kernel, run_rows

_LINE = 16  # features: narrower strips would share cache lines between threads
_STRIP = 512  # features summed at once for a decay that all features share
_TERMS = 256  # gradients added one by one in working precision; torch adds those sums pairwise


def forward(a: Tensor, x: Tensor, initial: Tensor | None, reverse: bool, out: Tensor) -> None:
    """Write the states of `gonzo.core.ops.linear_scan`, real or complex, to `out`."""
    batch, _, d = x.shape
    y = _wide(out)  # `out` itself unless its dtype is of 16 bits
    strides, width = _strides(a, x), _strip(batch, d)
    run_rows(
        batch * -(-d // width),
        _forward_rows,
        *(_flat(t, x) for t in (a, x, initial, y)),
        tuple(x.shape),
        strides,
        width,
        reverse,
    )
    if y is not out:
        out.copy_(y)


def backward(
    grad: Tensor, a: Tensor, y: Tensor | None, initial: Tensor | None, reverse: bool
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of a (None where no states are given), x and initial from that of the states."""
    batch, time, d = grad.shape
    strides = _strides(a, grad)
    batch_stride, time_stride, d_stride = strides
    # A decay that the batch shares: one thread goes through the batch, in order, strip by strip.
    group = 1 if batch_stride or batch == 1 or y is None else batch
    width = _strip(batch // group, d) if d_stride else min(d, _STRIP)
    strips = -(-d // width)
    # Sums over time and features leave the kernel in pieces of a size that depends on the shapes
    # alone, so the result does not depend on the number of threads.
    span = 1 if time_stride else max(1, _TERMS // group)
    pieces = (batch if batch_stride else 1, -(-time // span), d if d_stride else strips)
    da = _wide(grad.new_zeros(pieces if y is not None else (0, 0, 0)))
    da_strides = (pieces[1] * pieces[2] if batch_stride else 0, pieces[2])
    dx = torch.empty_like(_wide(grad), memory_format=torch.contiguous_format)
    dinitial = torch.empty_like(dx[:, 0] if initial is not None else dx[:0, 0])
    run_rows(
        batch // group * strips,
        _backward_rows,
        *(_flat(t, grad) for t in (grad, a, y, initial, da, dx, dinitial)),
        tuple(grad.shape),
        strides,
        da_strides,
        span,
        group,
        width,
        reverse,
    )
    return (
        None if y is None else da.sum_to_size(_three(a).shape).view(a.shape),
        dx,
        None if initial is None else dinitial,
    )


def _wide(tensor: Tensor) -> Tensor:
    """Numba has no 16-bit floats: they become float32, in which states are carried anyway."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _flat(tensor: Tensor | None, like: Tensor) -> np.ndarray:
    """A one-dimensional array, without elements for None; a view where the layout allows."""
    tensor = like.new_empty(0) if tensor is None else tensor
    return _wide(tensor.detach()).contiguous().view(-1).numpy()


def _three(a: Tensor) -> Tensor:
    return a.view((1,) * (3 - a.ndim) + tuple(a.shape)) if a.ndim < 3 else a


def _strides(a: Tensor, x: Tensor) -> tuple[int, int, int]:
    """Strides of the contiguous `a` as seen from `x`: 0 where one value serves the whole axis."""
    batch, time, d = _three(a).shape
    return (
        time * d if batch == x.shape[0] and batch > 1 else 0,
        d if time == x.shape[1] and time > 1 else 0,
        1 if d == x.shape[2] else 0,
    )


def _strip(rows: int, d: int) -> int:
    """Features per piece of work: all of them, or fewer where rows alone leave threads idle."""
    wanted = -(-torch.get_num_threads() // max(rows, 1))
    return min(d, -(-d // wanted // _LINE) * _LINE) if wanted > 1 else d


@kernel
def _forward_rows(start, stop, a, x, initial, y, shape, strides, width, reverse):
    _, time, d = shape
    batch_stride, time_stride, d_stride = strides
    strips = (d + width - 1) // width
    for row in range(start, stop):
        b, low = row // strips, row % strips * width
        n = np.uint64(min(low + width, d) - low)
        before = np.uint64(b * d + low)
        for i in range(time):
            t = time - 1 - i if reverse else i
            now = np.uint64((b * time + t) * d + low)
            decay = np.uint64(b * batch_stride + t * time_stride + low * d_stride)
            if i == 0 and initial.size == 0:
                for j in range(n):
                    y[now + j] = x[now + j]
            elif i == 0:
                for j in range(n):
                    y[now + j] = a[decay + j * np.uint64(d_stride)] * initial[before + j]
                    y[now + j] += x[now + j]
            elif d_stride:
                for j in range(n):
                    y[now + j] = a[decay + j] * y[before + j] + x[now + j]
            else:
                shared = a[decay]
                for j in range(n):
                    y[now + j] = shared * y[before + j] + x[now + j]
            before = now


# "reassoc" lets the sum over features, of a decay that all share, run in vector lanes. It permits
# nothing about NaN or infinity, and no other expression here has two additions to exchange.
@kernel(fastmath={"reassoc"})
def _backward_rows(
    start, stop, grad, a, y, initial, da, dx, dinitial,
    shape, strides, da_strides, span, group, width, reverse,
):  # fmt: skip
    _, time, d = shape
    batch_stride, time_stride, d_stride = strides
    strips = (d + width - 1) // width
    for row in range(start, stop):
        strip = row % strips
        low = strip * width
        n = np.uint64(min(low + width, d) - low)
        for b in range(row // strips * group, (row // strips + 1) * group):
            after = np.uint64(0)
            decay = np.uint64(0)  # of the step after, on the path from loss to state
            first = np.uint64(b * d + low)
            for i in range(time):
                t = i if reverse else time - 1 - i
                now = np.uint64((b * time + t) * d + low)
                if i == 0:
                    for j in range(n):
                        dx[now + j] = grad[now + j]
                elif d_stride:
                    for j in range(n):
                        dx[now + j] = grad[now + j] + np.conj(a[decay + j]) * dx[after + j]
                else:
                    shared = np.conj(a[decay])
                    for j in range(n):
                        dx[now + j] = grad[now + j] + shared * dx[after + j]
                after = now
                decay = np.uint64(b * batch_stride + t * time_stride + low * d_stride)
                if da.size == 0:
                    continue
                to = b * da_strides[0] + t // span * da_strides[1]
                to = np.uint64(to + (low if d_stride else strip))
                if i < time - 1:
                    before = np.uint64((b * time + (t + 1 if reverse else t - 1)) * d + low)
                    _accumulate(da, to, dx, now, y, before, n, d_stride)
                elif initial.size:
                    _accumulate(da, to, dx, now, initial, first, n, d_stride)
            if initial.size:
                for j in range(n):
                    shared = np.conj(a[decay + j * np.uint64(d_stride)])
                    dinitial[first + j] = shared * dx[after + j]


@kernel(fastmath={"reassoc"})
def _accumulate(da, to, dx, now, h, before, n, d_stride):
    if d_stride:
        for j in range(n):
            da[to + j] += dx[now + j] * np.conj(h[before + j])
    else:
        total = da[to]
        for j in range(n):
            total += dx[now + j] * np.conj(h[before + j])
        da[to] = total
