"""GPU kernels that keep the state of a few heads in registers while time runs.

    x_t = x_{t-1} + a ∘ x_{t-1} + Σ_i p_i · 2 Re⟨q_i, x_{t-1}⟩ + b u_t        y_t = 2 Re⟨c, x_t⟩

A program is a batch row and a tile (n, heads) of the state, in one warp: the sums over n then need
no shared memory and no barrier. System and state stay in registers; a step reads u and writes y.
Steps wait for each other, so a long chunk is bound by latency unless batch and heads fill the
device with warps; training on whole sequences is the convolution's work. (Chunks in time, as in
`linear_scan`, would multiply dense transitions where the low-rank term is present.)

The backward keeps one state in √time, recomputes those between two of them into scratch memory of
its own and walks back over it, with the gradient of the system in registers: a sum for each batch
row, which torch adds.

The tile follows from n, the dtype and the rank alone, so a chunk and its single steps add in the
same order. Nothing is tuned: a decoding step is one launch, and should cost no more than that.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gonzo.core.triton_kernels import launch

_STATES = 8  # real and as many imaginary parts of 4 bytes in a thread
_STATES_BACK = 4  # beside them stand the states before and after, and the gradient of the system
_STEPS = tl.constexpr(8)  # whose u is under way at once


def forward(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.ssm_scan`."""
    u, state, system = u.contiguous(), state.contiguous(), system.contiguous()
    y, final = torch.empty_like(u), torch.empty_like(state)
    if not state.numel():
        return y.zero_(), final
    grid, constants = _tiles(state, system, lengths, _STATES)
    launch(
        _forward,
        grid,
        *(u, state, system, u if lengths is None else lengths.contiguous(), y, final),
        *_sizes(u, state),
        **constants,
    )
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
    u, state, system = u.contiguous(), state.contiguous(), system.contiguous()
    d_u, d_state = torch.empty_like(u), torch.empty_like(state)
    d_system = state.new_empty(len(state), *system.shape)
    if not state.numel():
        return d_u.zero_(), d_state, d_system.sum(0)
    grid, constants = _tiles(state, system, lengths, _STATES_BACK)
    time = u.shape[1]
    every = triton.cdiv(math.isqrt(time), _STEPS.value) * _STEPS.value
    tile = (2, constants["N"], constants["HEADS"])
    launch(
        _backward,
        grid,
        *(grad_y.contiguous(), grad_state.contiguous(), u, state, system),
        u if lengths is None else lengths.contiguous(),
        *(d_u, d_state, d_system),
        state.new_empty(*grid, triton.cdiv(time, every), *tile),
        state.new_empty(*grid, every, *tile),
        *_sizes(u, state),
        every,
        constants["HEADS"],
        **constants,
    )
    return d_u, d_state, d_system.sum(0)


def _sizes(u: Tensor, state: Tensor) -> tuple[int, int, int]:
    return u.shape[1], state.shape[2], state.shape[3]


def _tiles(
    state: Tensor, system: Tensor, lengths: Tensor | None, states: int
) -> tuple[tuple[int], dict[str, Any]]:
    """The programs, and constants that say what a tile is."""
    batch, _, n, heads = state.shape
    rank = (len(system) - 3) // 2
    if rank == 2:
        states //= 2  # of seven vectors, more would take all registers of a thread
    warp = 32 * states * 4 // state.itemsize
    tall = triton.next_power_of_2(n)
    wide = min(max(1, warp // tall), triton.next_power_of_2(heads))
    constants = {
        "HAS_LENGTHS": lengths is not None,
        "RANK": rank,
        "N": tall,
        "HEADS": wide,
        "num_warps": min(max(1, 2 * tall // warp), 16),
    }
    return (batch * triton.cdiv(heads, wide),), constants


@triton.jit
def _place(n, heads, N: tl.constexpr, HEADS: tl.constexpr):
    """The batch row and the heads (1, HEADS) of this program, and places in (n, heads)."""
    blocks = tl.cdiv(heads, HEADS)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    lanes = (tl.program_id(0) % blocks * HEADS + tl.arange(0, HEADS))[None, :]
    rows = tl.arange(0, N)[:, None]
    return row, lanes, rows * heads + lanes, (rows < n) & (lanes < heads)


@triton.jit
def _read(p, index, places, mask, size):
    """Real and imaginary part of complex tile number `index`; zero beyond n and heads."""
    re = tl.load(p + 2 * index * size + places, mask, other=0)
    im = tl.load(p + (2 * index + 1) * size + places, mask, other=0)
    return re, im


@triton.jit
def _write(p, index, places, re, im, mask, size):
    tl.store(p + 2 * index * size + places, re, mask)
    tl.store(p + (2 * index + 1) * size + places, im, mask)


@triton.jit
def _transition(system, places, mask, size, RANK: tl.constexpr):
    """a, b, p_1, q_1, p_2 and q_2; those beyond the rank are not used."""
    a_re, a_im = _read(system, 0, places, mask, size)
    b_re, b_im = _read(system, 1, places, mask, size)
    p_re, p_im, q_re, q_im = a_re, a_im, a_re, a_im
    p2_re, p2_im, q2_re, q2_im = a_re, a_im, a_re, a_im
    if RANK >= 1:
        p_re, p_im = _read(system, 3, places, mask, size)
        q_re, q_im = _read(system, 4, places, mask, size)
    if RANK == 2:
        p2_re, p2_im = _read(system, 5, places, mask, size)
        q2_re, q2_im = _read(system, 6, places, mask, size)
    return a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im, p2_re, p2_im, q2_re, q2_im


@triton.jit
def _valid(lengths, row, time, HAS_LENGTHS: tl.constexpr):
    valid = time
    if HAS_LENGTHS:
        valid = tl.minimum(tl.maximum(tl.load(lengths + row).to(tl.int32), 0), time)
    return valid


@triton.jit
def _advance(x_re, x_im, u, transition, RANK: tl.constexpr):
    """The next state."""
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im, p2_re, p2_im, q2_re, q2_im = transition
    new_re = x_re + (a_re * x_re - a_im * x_im + b_re * u)
    new_im = x_im + (a_re * x_im + a_im * x_re + b_im * u)
    if RANK >= 1:
        mixed = 2 * tl.sum(q_re * x_re - q_im * x_im, 0, keep_dims=True)
        new_re += p_re * mixed
        new_im += p_im * mixed
    if RANK == 2:
        mixed2 = 2 * tl.sum(q2_re * x_re - q2_im * x_im, 0, keep_dims=True)
        new_re += p2_re * mixed2
        new_im += p2_im * mixed2
    return new_re, new_im


@triton.jit
def _inputs(u, first, time, step, lanes, exists, dtype: tl.constexpr):
    """What a group of steps from `first` on reads; the last u again where time has ended."""
    group = ()
    for i in tl.static_range(_STEPS):
        t = tl.minimum(first + i, time - 1)
        group += (tl.load(u + t * step + lanes, exists, other=0).to(dtype),)
    return group


@triton.jit
def _output(x_re, x_im, c_re, c_im, y, lanes, exists):
    out = 2 * tl.sum(c_re * x_re - c_im * x_im, 0, keep_dims=True)
    tl.store(y + lanes, out.to(y.dtype.element_ty), exists)


# Told that rows are aligned, Triton would give a thread four heads, to load them at once, and
# spread n over more threads: eight times as many exchanges between threads in every step.
@triton.jit(do_not_specialize=["heads"])
def _forward(
    u, state, system, lengths, y, final, time, n, heads,
    HAS_LENGTHS: tl.constexpr, RANK: tl.constexpr, N: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row, lanes, places, mask = _place(n, heads, N, HEADS)
    exists = lanes < heads
    step = heads.to(tl.int64)
    size = step * n
    u += row * time * step
    y += row * time * step
    transition = _transition(system, places, mask, size, RANK)
    c_re, c_im = _read(system, 2, places, mask, size)
    x_re, x_im = _read(state, row, places, mask, size)
    valid = _valid(lengths, row, time, HAS_LENGTHS)
    grouped = valid // _STEPS * _STEPS
    later = _inputs(u, 0, time, step, lanes, exists, x_re.dtype)
    for first in range(0, grouped, _STEPS):
        now = later
        # The next group is read while this one computes.
        later = _inputs(u, first + _STEPS, time, step, lanes, exists, x_re.dtype)
        for i in tl.static_range(_STEPS):
            x_re, x_im = _advance(x_re, x_im, now[i], transition, RANK)
            _output(x_re, x_im, c_re, c_im, y + (first + i) * step, lanes, exists)
    for t in range(grouped, valid):
        now = tl.load(u + t * step + lanes, exists, other=0).to(x_re.dtype)
        x_re, x_im = _advance(x_re, x_im, now, transition, RANK)
        _output(x_re, x_im, c_re, c_im, y + t * step, lanes, exists)
    nothing = tl.zeros([1, HEADS], y.dtype.element_ty)
    for t in range(valid, time):
        tl.store(y + t * step + lanes, nothing, exists)
    _write(final, row, places, x_re, x_im, mask, size)


@triton.jit
def _replay(
    x_re, x_im, u, segment, first, steps, last, step, lanes, exists, tile, transition,
    RECORD: tl.constexpr, RANK: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """`steps` steps from time `first` on; RECORD keeps the state before each in `segment`."""
    later = tl.load(u + first * step + lanes, exists, other=0)
    for i in range(steps):
        now = later.to(x_re.dtype)
        later = tl.load(u + tl.minimum(first + i + 1, last) * step + lanes, exists, other=0)
        if RECORD:
            _write(segment, i, tile, x_re, x_im, tile >= 0, SIZE)
        x_re, x_im = _advance(x_re, x_im, now, transition, RANK)
    return x_re, x_im


@triton.jit(do_not_specialize=["heads", "width"])
def _backward(
    grad_y, grad_state, u, state, system, lengths, d_u, d_state, d_system, checkpoints, segment,
    time, n, heads, every, width,
    HAS_LENGTHS: tl.constexpr, RANK: tl.constexpr, N: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    row, lanes, places, mask = _place(n, heads, N, HEADS)
    exists = lanes < heads
    step = heads.to(tl.int64)
    size = step * n
    u += row * time * step
    grad_y += row * time * step
    d_u += row * time * step
    transition = _transition(system, places, mask, size, RANK)
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im, p2_re, p2_im, q2_re, q2_im = transition
    c_re, c_im = _read(system, 2, places, mask, size)
    x_re, x_im = _read(state, row, places, mask, size)
    valid = _valid(lengths, row, time, HAS_LENGTHS)
    # Scratch memory holds whole tiles, of this program alone. Their width is HEADS.
    SIZE: tl.constexpr = N * HEADS
    tile = tl.arange(0, N)[:, None] * width + tl.arange(0, HEADS)[None, :]
    whole = tile >= 0
    own = tl.program_id(0).to(tl.int64)
    checkpoints += own * tl.cdiv(time, every) * (2 * SIZE)
    segment += own * every * (2 * SIZE)
    segments = tl.cdiv(valid, every)
    for k in range(segments):
        _write(checkpoints, k, tile, x_re, x_im, whole, SIZE)
        first = k * every
        x_re, x_im = _replay(
            x_re, x_im, u, segment, first, tl.minimum(every, valid - first), valid - 1,
            step, lanes, exists, tile, transition, False, RANK, SIZE,
        )  # fmt: skip
    d_re, d_im = _read(grad_state, row, places, mask, size)
    da_re = tl.zeros([N, HEADS], d_re.dtype)
    da_im, db_re, db_im, dc_re, dc_im = da_re, da_re, da_re, da_re, da_re
    dp_re, dp_im, dq_re, dq_im = da_re, da_re, da_re, da_re
    dp2_re, dp2_im, dq2_re, dq2_im = da_re, da_re, da_re, da_re
    for done in range(segments):
        k = segments - 1 - done
        first = k * every
        steps = tl.minimum(every, valid - first)
        tl.debug_barrier()  # what one thread wrote, another may read
        x_re, x_im = _read(checkpoints, k, tile, whole, SIZE)
        after_re, after_im = _replay(
            x_re, x_im, u, segment, first, steps, valid - 1,
            step, lanes, exists, tile, transition, True, RANK, SIZE,
        )  # fmt: skip
        tl.debug_barrier()
        t = first + steps - 1
        next_re, next_im = _read(segment, steps - 1, tile, whole, SIZE)
        next_u = tl.load(u + t * step + lanes, exists, other=0)
        next_grad = tl.load(grad_y + t * step + lanes, exists, other=0)
        for i in range(steps):
            before_re, before_im = next_re, next_im
            now = next_u.to(d_re.dtype)
            d_y = 2 * next_grad.to(d_re.dtype)
            # The earlier step is read while this one computes.
            earlier = tl.maximum(steps - 2 - i, 0)
            next_re, next_im = _read(segment, earlier, tile, whole, SIZE)
            next_u = tl.load(u + (first + earlier) * step + lanes, exists, other=0)
            next_grad = tl.load(grad_y + (first + earlier) * step + lanes, exists, other=0)
            dc_re += d_y * after_re
            dc_im -= d_y * after_im
            d_re += d_y * c_re
            d_im -= d_y * c_im
            out = tl.sum(d_re * b_re + d_im * b_im, 0, keep_dims=True)
            tl.store(d_u + (t - i) * step + lanes, out.to(d_u.dtype.element_ty), exists)
            db_re += d_re * now
            db_im += d_im * now
            da_re += d_re * before_re + d_im * before_im
            da_im += d_im * before_re - d_re * before_im
            earlier_re = d_re + (d_re * a_re + d_im * a_im)
            earlier_im = d_im + (d_im * a_re - d_re * a_im)
            if RANK >= 1:
                mixed = 2 * tl.sum(q_re * before_re - q_im * before_im, 0, keep_dims=True)
                d_mixed = 2 * tl.sum(d_re * p_re + d_im * p_im, 0, keep_dims=True)
                dp_re += d_re * mixed
                dp_im += d_im * mixed
                dq_re += d_mixed * before_re
                dq_im -= d_mixed * before_im
                earlier_re += d_mixed * q_re
                earlier_im -= d_mixed * q_im
            if RANK == 2:
                mixed2 = 2 * tl.sum(q2_re * before_re - q2_im * before_im, 0, keep_dims=True)
                d_mixed2 = 2 * tl.sum(d_re * p2_re + d_im * p2_im, 0, keep_dims=True)
                dp2_re += d_re * mixed2
                dp2_im += d_im * mixed2
                dq2_re += d_mixed2 * before_re
                dq2_im -= d_mixed2 * before_im
                earlier_re += d_mixed2 * q2_re
                earlier_im -= d_mixed2 * q2_im
            d_re, d_im = earlier_re, earlier_im
            after_re, after_im = before_re, before_im
    nothing = tl.zeros([1, HEADS], d_u.dtype.element_ty)
    for t in range(valid, time):
        tl.store(d_u + t * step + lanes, nothing, exists)
    _write(d_state, row, places, d_re, d_im, mask, size)
    first = row * (3 + 2 * RANK)
    _write(d_system, first, places, da_re, da_im, mask, size)
    _write(d_system, first + 1, places, db_re, db_im, mask, size)
    _write(d_system, first + 2, places, dc_re, dc_im, mask, size)
    if RANK >= 1:
        _write(d_system, first + 3, places, dp_re, dp_im, mask, size)
        _write(d_system, first + 4, places, dq_re, dq_im, mask, size)
    if RANK == 2:
        _write(d_system, first + 5, places, dp2_re, dp2_im, mask, size)
        _write(d_system, first + 6, places, dq2_re, dq2_im, mask, size)
