"""States of `linear_attention` before every segment of time, and after the last.

    S = Σ φ(z) wᵀ        z, w = k, [v, 1], or from the last segment on q, the sums' gradient

A program owns a tile of features and some columns, and walks through all segments with its part of
the state in registers; or through one of them, where that would leave a GPU idle, and `carry` adds.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_tiles import (
    dot,
    first_column,
    first_slot,
    load_firsts,
    load_steps,
    load_tile,
    load_values,
    place,
    span,
    state_size,
    turned_products,
)


@triton.jit
def _store(p, values, last, f, kept, stored, block, column, columns, NORMALIZE: tl.constexpr):
    """Write a tile, and its last column from the first block of columns."""
    at = p + f[:, None] * (columns + (1 if NORMALIZE else 0))
    mask = kept[:, None] & (column < columns)[None, :]
    tl.store(at + column[None, :], values * stored[:, None], mask)
    if NORMALIZE:
        lane = tl.arange(0, 16)[None, :]
        mask = kept[:, None] & (lane == 16 * block)
        tl.store(at + columns + lane, last * stored[:, None], mask)


@triton.jit
def sum_states(
    z, w, divisor, delta, spans, initial, states, final,
    d, columns, heads, time, segments, tiles,
    z_n, z_h, z_t, w_n, w_h, w_t,
    SEGMENT: tl.constexpr, SCALE: tl.constexpr, MAP: tl.constexpr, SPANS: tl.constexpr,
    NORMALIZE: tl.constexpr, REVERSE: tl.constexpr, GRADIENTS: tl.constexpr,
    WALK: tl.constexpr, KEEP: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    COLUMNS: tl.constexpr, EVEN_D: tl.constexpr, EVEN_COLUMNS: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """With WALK the states before segments (after, in REVERSE), else the sum of each segment."""
    wide: tl.constexpr = initial.dtype.element_ty
    POLYNOMIAL: tl.constexpr = MAP == "taylor" or MAP == "quadratic"
    d_end, columns_end = None if EVEN_D else d, None if EVEN_COLUMNS else columns
    walks = 1 if WALK else segments
    blocks = tl.cdiv(columns, COLUMNS)
    program = tl.program_id(0)
    block, tile = program % blocks, program // blocks % tiles
    walk = program // blocks // tiles % walks
    row = (program // blocks // tiles // walks).to(tl.int64)
    n, head = row // heads, row % heads
    begin, length, valid = span(spans, n, time, SPANS)
    slot, count = first_slot(n, begin, length, segments, SEGMENT, SPANS)
    if walk >= (count + 1 if WALK else count):
        return  # a segment that this packed sequence does not have
    batch = n * 0 if SPANS == "packed" else n
    line = (batch * heads + head) * time + begin
    one = tl.full([], 1, tl.int64)
    z += batch * z_n + head * z_h + begin * one * z_t
    w += batch * w_n + head * w_h + begin * one * w_t
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    size = state_size(d, columns, MAP, NORMALIZE)
    values, last = tl.zeros([ROWS, COLUMNS], wide), tl.zeros([ROWS, 16], wide)
    if WALK:
        g, exists, _, factor, _ = place(tile, d, MAP, SCALE, ROWS, DP, wide)
        at = initial + row * size + g[:, None] * (columns + (1 if NORMALIZE else 0))
        mask = exists[:, None] & (column < columns)[None, :]
        values = tl.load(at + column[None, :], mask, other=0) / factor[:, None]
        if NORMALIZE:
            lane = tl.arange(0, 16)[None, :]
            last = tl.load(at + columns + lane, exists[:, None] & (lane == 0), other=0)
            last /= factor[:, None]
    for index in range(count + 1 if WALK else 1):
        cut = index if WALK else walk
        if REVERSE and WALK:
            cut = count - 1 - index
        if WALK:
            target = final + row * size
            if index < count:
                target = states + ((slot + cut) * heads + head) * size
            if KEEP or index == count:
                # Found anew each time, places take no registers in between.
                same = tile + index // (count + 1)
                f, _, kept, stored, _ = place(same, d, MAP, SCALE, ROWS, DP, wide)
                _store(target, values, last, f, kept, stored, block, column, columns, NORMALIZE)
        from_step = tl.maximum(cut * SEGMENT, 0)
        for at_step in range(from_step, tl.minimum((cut + 1) * SEGMENT, valid), CHUNK):
            live = at_step + tl.arange(0, CHUNK) < valid
            far = at_step * one
            z_at = z + far * z_t
            w_c, w_last = load_values(
                w + far * w_t, w_t, line + far, live, block * COLUMNS, columns_end, divisor,
                delta, GRADIENTS, NORMALIZE, COLUMNS, wide, OPERAND,
            )  # fmt: skip
            if POLYNOMIAL:
                x = load_steps(z_at, z_t, live, 0, d_end, DP, wide, OPERAND)
                firsts = load_firsts(z_at, z_t, live, tile, d, MAP, ROWS, DP, wide, OPERAND)
                phi = turned_products(x, firsts, tile, d, MAP, ROWS)
            else:
                phi = tl.trans(load_tile(z_at, z_t, live, tile, d_end, MAP, ROWS, wide, OPERAND))
            values = dot(phi, w_c, values, PRECISION)
            if NORMALIZE:
                last = dot(phi, first_column(w_last, OPERAND), last, PRECISION)
    if not WALK:
        f, _, kept, stored, _ = place(tile, d, MAP, SCALE, ROWS, DP, wide)
        target = states + ((slot + walk) * heads + head) * size
        _store(target, values, last, f, kept, stored, block, column, columns, NORMALIZE)


@triton.jit
def carry(
    sums, spans, initial, final, size, heads, time, segments,
    SEGMENT: tl.constexpr, SPANS: tl.constexpr, REVERSE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Turn the sums of segments into the states before them (after them, in REVERSE)."""
    n, head = tl.program_id(0).to(tl.int64) // heads, tl.program_id(0) % heads
    begin, length, _ = span(spans, n, time, SPANS)
    slot, count = first_slot(n, begin, length, segments, SEGMENT, SPANS)
    i = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    mask = i < size
    row = (n * heads + head) * size
    total = tl.load(initial + row + i, mask, other=0)
    for index in range(count):
        cut = index
        if REVERSE:
            cut = count - 1 - index
        here = sums + ((slot + cut) * heads + head) * size + i
        part = tl.load(here, mask, other=0)
        tl.store(here, total, mask)
        total += part
    tl.store(final + row + i, total, mask)
