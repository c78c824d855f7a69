"""GPU kernels that walk along time in chunks, with a few features to a thread.

    h_t = a_t h_{t-1} + x_t

A program is one warp on a tile of batch rows and features. It issues the loads of a group of steps
before the chain of multiply-adds that needs them. There is no shared memory, no atomic, and no
associative scan, which would do log(time) times the work.

Where batch and features alone keep enough loads under way, a tile walks all of time: in float32 12
bytes an element, a and x read, y written. Elsewhere time is cut into chunks, in two launches:

1. `_summarise`: of each chunk but the last, the product of its decays and its last state from zero.
2. `_scan`: a program folds the summaries before its chunk into the state it begins with, and walks.

a and x are then read twice, 20 bytes, and the summaries from the second-level cache, 2 bytes or
less. (One launch with flags between programs would read once, but its programs wait for others.)

The backward is the same walk from the other end, with the decay of the step before on its path:
λ_t = g_t + conj(a_{t+1}) λ_{t+1}. `_scan_back` adds dL/da_t = λ_t conj(h_{t-1}) to it.

The product of the decays of a chunk has to fit the working precision: with |a| > 1 over many steps
it may overflow where the plain loop does not yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch, tuned

from .triton_steps import (
    decay_place,
    fold,
    place,
    read,
    read_decays,
    read_steps,
    summed,
    tile,
    times,
    write,
)

# An H100 has about 2.1 MB of loads under way when it reads 3.0 TB/s at 0.7 µs: 2^15 features with 8
# steps of a and x each. Below that, chunks make up for reading twice with many times as many.
_FILLED = 1 << 15
_WANTED = 1 << 17
_SHORTEST = 64  # steps: shorter chunks save less than the second launch costs
_ALIGNED = 16  # a chunk is a multiple of it, and STEPS divides it
_NARROW, _WIDE = 128, 32  # numbers in a tile, four float32 or one of anything larger to a thread
_SHARING = 8  # rows of a tile over which the gradient of a decay that the batch shares is summed


def _tuned(*steps: int) -> Any:
    """Tune how many loads are under way, and no more.

    Tiles and warps set the order of sums, and results must not depend on a measurement.
    """
    return tuned([triton.Config({"STEPS": n}, num_warps=1) for n in steps], key=["d"])


def forward(a: Tensor, x: Tensor, initial: Tensor | None, reverse: bool, out: Tensor) -> None:
    """Write the states of `gonzo.core.ops.linear_scan`, real or complex, to `out`."""
    a, x = a.contiguous(), x.contiguous()
    start = x if initial is None else initial.contiguous()  # never read where there is none
    # Tuning runs a kernel several times, so it must not write to what it reads.
    y = torch.empty_like(out) if _share_memory(out, a, x, start) else out
    walk = _cut(a, x, reverse=reverse)
    first = {"FIRST": 1 if initial is None else 0}
    summaries = _summaries(a, x, walk, BACK=False, **first)
    tensors = _real(a, x, start, *summaries, y)
    launch(_scan, walk.grid(walk.chunks), *tensors, *walk.sizes, **first, **walk.constants)
    if y is not out:
        out.copy_(y)


def backward(
    grad: Tensor, a: Tensor, y: Tensor | None, initial: Tensor | None, reverse: bool
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Gradients of a (None where no states are given), x and initial from that of the states."""
    a, grad = a.contiguous(), grad.contiguous()
    walk = _cut(a, grad, reverse=not reverse, sums=y is not None)
    dx = torch.empty_like(grad)
    da = dx if y is None else walk.decay_gradient(grad)
    dinitial = dx if initial is None else torch.empty_like(initial.contiguous())
    start = dx if initial is None else initial.contiguous()
    summaries = _summaries(a, grad, walk, FIRST=1, BACK=True)
    inputs = (a, grad, dx if y is None else y.contiguous(), start)
    launch(
        _scan_back,
        walk.grid(walk.chunks),
        *_real(*inputs, *summaries, da, dx, dinitial),
        *walk.sizes,
        HAS_STATES=y is not None,
        HAS_INITIAL=initial is not None,
        **walk.constants,
    )
    return (
        None if y is None else da.sum_to_size(_three(a)).view(a.shape),
        dx,
        None if initial is None else dinitial,
    )


@dataclass(frozen=True)
class _Walk:
    """How the programs of a scan share the work; a function of shapes and dtype alone."""

    batch: int
    time: int
    d: int
    chunks: int
    length: int  # of a chunk
    constants: dict[str, Any]

    @property
    def sizes(self) -> tuple[int, ...]:
        """What every kernel is told."""
        return self.batch, self.time, self.d, self.chunks, self.length

    @property
    def blocks(self) -> tuple[int, int]:
        """Tiles along batch and features."""
        c = self.constants
        return triton.cdiv(self.batch, c["ROWS"]), triton.cdiv(self.d, c["LANES"])

    def grid(self, chunks: int) -> tuple[int]:
        """Programs for so many chunks."""
        return (math.prod(self.blocks) * chunks,)

    def decay_gradient(self, grad: Tensor) -> Tensor:
        """Space for the decay's gradient: of tiles and chunks that share a decay, a sum each.

        Sums over time are kept in float64: they may have many terms, and on any GPU an addition
        hides behind the memory that a step reads and writes.
        """
        c, dtype = self.constants, grad.dtype
        if not c["A_TIME"]:
            dtype = torch.promote_types(dtype, torch.float64)
        elif not (c["A_BATCH"] and c["A_D"]):
            dtype = torch.promote_types(dtype, torch.float32)
        row_blocks, lane_blocks = self.blocks
        return grad.new_empty(
            self.batch if c["A_BATCH"] else row_blocks,
            self.time if c["A_TIME"] else self.chunks,
            self.d if c["A_D"] else lane_blocks,
            dtype=dtype,
        )


def _cut(a: Tensor, x: Tensor, *, reverse: bool, sums: bool = False) -> _Walk:
    batch, time, d = x.shape
    varies = [n == full for n, full in zip(_three(a), x.shape, strict=True)]
    wanted = 1 if batch * d >= _FILLED else triton.cdiv(_WANTED, batch * d)
    # A chunk twice as long as there are chunks keeps the reading of summaries small.
    wanted = max(1, min(wanted, time // _SHORTEST, math.isqrt(time // 2)))
    length = triton.cdiv(triton.cdiv(time, wanted), _ALIGNED) * _ALIGNED
    numbers = _NARROW if x.dtype.itemsize <= 4 else _WIDE
    rows = (
        min(_SHARING, triton.next_power_of_2(batch)) if sums and varies[:2] == [False, True] else 1
    )
    lanes = min(numbers // rows, triton.next_power_of_2(d))
    rows = max(rows, min(numbers // lanes, triton.next_power_of_2(batch)))
    constants = {
        "REVERSE": reverse,
        "PAIRS": x.is_complex(),
        **dict(zip(("A_BATCH", "A_TIME", "A_D"), varies, strict=True)),
        "ROWS": rows,
        "LANES": lanes,
    }
    return _Walk(batch, time, d, triton.cdiv(time, length), length, constants)


def _summaries(a: Tensor, x: Tensor, walk: _Walk, **constants: Any) -> tuple[Tensor, Tensor]:
    """Of each chunk but the last, the product of decays and the last state from zero."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    products = x.new_empty(walk.batch, walk.chunks - 1, walk.d, dtype=dtype)
    ends = torch.empty_like(products)
    if walk.chunks > 1:
        tensors = _real(a, x, products, ends)
        launch(
            _summarise,
            walk.grid(walk.chunks - 1),
            *tensors,
            *walk.sizes,
            **constants,
            **walk.constants,
            STEPS=8,
            num_warps=1,
        )
    return products, ends


def _three(a: Tensor) -> tuple[int, ...]:
    return (1,) * (3 - a.ndim) + tuple(a.shape)


def _real(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.view_as_real(t) if t.is_complex() else t for t in tensors)


def _share_memory(out: Tensor, *inputs: Tensor) -> bool:
    memory = out.untyped_storage().data_ptr()  # 0 on the meta device
    return memory != 0 and any(t.untyped_storage().data_ptr() == memory for t in inputs)


@triton.jit
def _summarise(
    a, x, products, ends, batch, time, d, chunks, length,
    FIRST: tl.constexpr, BACK: tl.constexpr, REVERSE: tl.constexpr, PAIRS: tl.constexpr,
    A_BATCH: tl.constexpr, A_TIME: tl.constexpr, A_D: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    chunk, rows, lanes, mask = place(batch, d, chunks - 1, ROWS, LANES)
    places = rows * time * d + lanes
    a_places, a_mask, width = decay_place(rows, lanes, batch, time, d, A_BATCH, A_TIME, A_D)
    always_re, always_im = read(a, a_places, a_mask, PAIRS)
    h_re = tl.zeros([ROWS, LANES], products.dtype.element_ty)
    h_im = h_re
    p_re = h_re + 1
    p_im = h_im if PAIRS else p_re
    for begin in range(chunk * length, (chunk + 1) * length, STEPS):
        start = tile(begin)
        a_re, a_im = read_decays(
            a, a_places, a_mask, always_re, always_im, start, time, width,
            FIRST, BACK, REVERSE, PAIRS, A_TIME, STEPS,
        )  # fmt: skip
        x_re, x_im = read_steps(x, places, mask, start, 0, time, d, REVERSE, PAIRS, STEPS)
        for i in tl.static_range(STEPS):
            h_re, h_im = times(a_re[i], a_im[i], h_re, h_im, PAIRS)
            h_re += x_re[i]
            h_im += x_im[i]
            p_re, p_im = times(a_re[i], a_im[i], p_re, p_im, PAIRS)
    places = (rows * (chunks - 1) + chunk) * d + lanes
    write(products, places, p_re, p_im, mask, PAIRS)
    write(ends, places, h_re, h_im, mask, PAIRS)


@_tuned(8, 4)
@triton.jit
def _scan(
    a, x, initial, products, ends, y, batch, time, d, chunks, length,
    FIRST: tl.constexpr, REVERSE: tl.constexpr, PAIRS: tl.constexpr,
    A_BATCH: tl.constexpr, A_TIME: tl.constexpr, A_D: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    chunk, rows, lanes, mask = place(batch, d, chunks, ROWS, LANES)
    places = rows * time * d + lanes
    a_places, a_mask, width = decay_place(rows, lanes, batch, time, d, A_BATCH, A_TIME, A_D)
    always_re, always_im = read(a, a_places, a_mask, PAIRS)
    h_re = tl.zeros([ROWS, LANES], products.dtype.element_ty)
    h_im = h_re
    if FIRST == 0:
        h_re, h_im = read(initial, rows * d + lanes, mask, PAIRS)
    h_re, h_im = fold(h_re, h_im, products, ends, chunk, chunks, rows, lanes, mask, d, PAIRS)
    for begin in range(chunk * length, tl.minimum((chunk + 1) * length, time), STEPS):
        start = tile(begin)
        a_re, a_im = read_decays(
            a, a_places, a_mask, always_re, always_im, start, time, width,
            FIRST, False, REVERSE, PAIRS, A_TIME, STEPS,
        )  # fmt: skip
        x_re, x_im = read_steps(x, places, mask, start, 0, time, d, REVERSE, PAIRS, STEPS)
        for i in tl.static_range(STEPS):
            h_re, h_im = times(a_re[i], a_im[i], h_re, h_im, PAIRS)
            h_re += x_re[i]
            h_im += x_im[i]
            position = start + i
            t = time - 1 - position if REVERSE else position
            write(y, places + t * d, h_re, h_im, mask & (position < time), PAIRS)


@_tuned(4, 2)
@triton.jit
def _scan_back(
    a, grad, y, initial, products, ends, da, dx, dinitial, batch, time, d, chunks, length,
    HAS_STATES: tl.constexpr, HAS_INITIAL: tl.constexpr,
    REVERSE: tl.constexpr, PAIRS: tl.constexpr,
    A_BATCH: tl.constexpr, A_TIME: tl.constexpr, A_D: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    chunk, rows, lanes, mask = place(batch, d, chunks, ROWS, LANES)
    places = rows * time * d + lanes
    a_places, a_mask, width = decay_place(rows, lanes, batch, time, d, A_BATCH, A_TIME, A_D)
    always_re, always_im = read(a, a_places, a_mask, PAIRS)
    zero = tl.zeros([ROWS, LANES], products.dtype.element_ty)
    h_re, h_im = fold(zero, zero, products, ends, chunk, chunks, rows, lanes, mask, d, PAIRS)
    in_last = mask & (tile(chunk) == chunks - 1)
    if HAS_INITIAL:
        start_re, start_im = read(initial, rows * d + lanes, in_last, PAIRS)
    else:
        start_re, start_im = zero, zero
    sum_re = tl.zeros([ROWS, LANES], tl.float64)
    sum_im = sum_re
    # Rows and columns of da: a piece for each tile where the tile's numbers are summed.
    da_rows = rows if A_BATCH else tl.min(rows, 0, keep_dims=True) // ROWS
    da_lanes = lanes if A_D else tl.min(lanes, 1, keep_dims=True) // LANES
    da_width = d if A_D else tl.cdiv(d, LANES)
    da_mask = (rows < batch if A_BATCH else da_rows >= 0) & (lanes < d if A_D else da_lanes >= 0)
    for begin in range(chunk * length, tl.minimum((chunk + 1) * length, time), STEPS):
        start = tile(begin)
        a_re, a_im = read_decays(
            a, a_places, a_mask, always_re, always_im, start, time, width,
            1, True, REVERSE, PAIRS, A_TIME, STEPS,
        )  # fmt: skip
        g_re, g_im = read_steps(grad, places, mask, start, 0, time, d, REVERSE, PAIRS, STEPS)
        if HAS_STATES:
            y_re, y_im = read_steps(y, places, mask, start + 1, 0, time, d, REVERSE, PAIRS, STEPS)
        for i in tl.static_range(STEPS):
            position = start + i
            exists = position < time
            t = time - 1 - position if REVERSE else position
            re, im = times(a_re[i], a_im[i], h_re, h_im, PAIRS)
            h_re = tl.where(exists, re + g_re[i], h_re)
            h_im = tl.where(exists, im + g_im[i], h_im)
            write(dx, places + t * d, h_re, h_im, mask & exists, PAIRS)
            if HAS_STATES:
                before_re = tl.where(position + 1 == time, start_re, y_re[i])
                before_im = tl.where(position + 1 == time, start_im, y_im[i])
                re, im = times(before_re, -before_im, h_re, h_im, PAIRS)
                # A decay of infinity makes NaN where a tile reaches beyond batch or features.
                re = tl.where(mask & exists, re, 0)
                im = tl.where(mask & exists, im, 0)
                if A_TIME:
                    re, im = summed(re, im, A_BATCH, A_D)
                    now = (da_rows * time + t) * da_width + da_lanes
                    write(da, now, re, im, da_mask & exists, PAIRS)
                else:
                    sum_re += re
                    sum_im += im
    if HAS_STATES and not A_TIME:
        re, im = summed(sum_re, sum_im, A_BATCH, A_D)
        write(da, (da_rows * chunks + chunk) * da_width + da_lanes, re, im, da_mask, PAIRS)
    if HAS_INITIAL:
        if A_TIME and not REVERSE:
            a_places += tile(time - 1) * width
        first_re, first_im = read(a, a_places, a_mask, PAIRS)
        re, im = times(first_re, -first_im, h_re, h_im, PAIRS)
        write(dinitial, rows * d + lanes, re, im, in_last, PAIRS)
