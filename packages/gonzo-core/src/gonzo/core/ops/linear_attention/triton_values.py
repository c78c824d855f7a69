"""What steps x read in `linear_attention`: the state before their segment, and the segment itself.

    out = φ(x) S + Σ p(x·z) w        x, z, w = q, k, [v, 1]; for dv: k, q and the sums' gradient

A program owns a chunk of steps and some columns. Within a segment weights are matrices of inner
products; those of steps that come later (earlier, in REVERSE) are zero. Without CAUSAL, the state
of all steps is read and nothing else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_tiles import (
    dot,
    first_slot,
    load_firsts,
    load_tiles,
    load_values,
    place,
    products,
    span,
    state_size,
)


@triton.jit
def _add_state(
    value, last, phi, state, tile, column, columns, d, SCALE: tl.constexpr, MAP: tl.constexpr,
    NORMALIZE: tl.constexpr, WEIGHTS: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """Add φ S of one tile to the values, and to what belongs to the last column."""
    f, exists, _, _, factor = place(tile, d, MAP, SCALE, ROWS, DP, wide)
    at = state + f[:, None] * (columns + (1 if NORMALIZE else 0))
    mask = exists[:, None] & (column < columns)[None, :]
    part = tl.load(at + column[None, :], mask, other=0) * factor[:, None]
    value = dot(phi, part.to(OPERAND), value, PRECISION)
    if WEIGHTS:
        lane = tl.arange(0, 16)[None, :]
        part = tl.load(at + columns + lane, exists[:, None] & (lane == 0), other=0)
        last = dot(phi, (part * factor[:, None]).to(OPERAND), last, PRECISION)
    return value, last


@triton.jit
def read(
    x, z, w, divisor, delta, spans, states, out, out_last,
    d, columns, heads, time, kept_states, tiles,
    x_n, x_h, x_t, z_n, z_h, z_t, w_n, w_h, w_t,
    SEGMENT: tl.constexpr, SCALE: tl.constexpr, EPS: tl.constexpr, MAP: tl.constexpr,
    SPANS: tl.constexpr, CAUSAL: tl.constexpr, NORMALIZE: tl.constexpr, REVERSE: tl.constexpr,
    GRADIENTS: tl.constexpr, TILES: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    COLUMNS: tl.constexpr, EVEN_D: tl.constexpr, EVEN_COLUMNS: tl.constexpr,
    RAW: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """`out` is y, divided, with divisors in `out_last`; or dv, where w are GRADIENTS."""
    wide: tl.constexpr = states.dtype.element_ty
    POLYNOMIAL: tl.constexpr = MAP == "taylor" or MAP == "quadratic"
    d_end, columns_end = None if EVEN_D else d, None if EVEN_COLUMNS else columns
    WEIGHTS: tl.constexpr = NORMALIZE and not GRADIENTS
    blocks, chunks = tl.cdiv(columns, COLUMNS), tl.cdiv(time, CHUNK)
    program = tl.program_id(0)
    block = program % blocks
    first = program // blocks % chunks * CHUNK
    row = (program // blocks // chunks).to(tl.int64)
    n, head = row // heads, row % heads
    begin, length, valid = span(spans, n, time, SPANS)
    if first >= length:
        return  # a chunk that this packed sequence does not have
    batch = n * 0 if SPANS == "packed" else n
    line = (batch * heads + head) * time + begin
    one = tl.full([], 1, tl.int64)
    x += batch * x_n + head * x_h + (begin + first) * one * x_t
    z += batch * z_n + head * z_h + begin * one * z_t
    w += batch * w_n + head * w_h + begin * one * w_t
    column = block * COLUMNS + tl.arange(0, COLUMNS)
    t = first + tl.arange(0, CHUNK)
    live = t < valid
    cut = first // SEGMENT
    slot = n
    if kept_states > 1:
        slot, _ = first_slot(n, begin, length, kept_states, SEGMENT, SPANS)
        slot += cut
    state = states + (slot * heads + head) * state_size(d, columns, MAP, NORMALIZE)

    value = tl.zeros([CHUNK, COLUMNS], wide)
    last = tl.zeros([CHUNK, 16], wide)
    x_tiles = load_tiles(x, x_t, live, 0, d_end, MAP, TILES, ROWS, DP, wide, OPERAND)
    if POLYNOMIAL:
        for tile in range(tiles):
            firsts = load_firsts(x, x_t, live, tile, d, MAP, ROWS, DP, wide, OPERAND)
            phi = products(x_tiles[0], firsts, tile, d, MAP, ROWS)
            value, last = _add_state(
                value, last, phi, state, tile, column, columns, d, SCALE, MAP, NORMALIZE, WEIGHTS,
                ROWS, DP, OPERAND, PRECISION, wide,
            )  # fmt: skip
    else:
        for tile in tl.static_range(TILES):
            value, last = _add_state(
                value, last, x_tiles[tile], state, tile, column, columns, d, SCALE, MAP,
                NORMALIZE, WEIGHTS, ROWS, DP, OPERAND, PRECISION, wide,
            )  # fmt: skip
    total = tl.sum(last, 1)  # all but the first column is zero

    if CAUSAL:
        from_step, to_step = cut * SEGMENT, tl.minimum(first + CHUNK, valid)
        if REVERSE:
            from_step, to_step = first, tl.minimum((cut + 1) * SEGMENT, valid)
        for at_step in range(from_step, to_step, CHUNK):
            s = at_step + tl.arange(0, CHUNK)
            there = s < valid
            far = at_step * one
            z_tiles = load_tiles(
                z + far * z_t, z_t, there, 0, d_end, MAP, TILES, ROWS, DP, wide, OPERAND
            )
            w_c, _ = load_values(
                w + far * w_t, w_t, line + far, there, block * COLUMNS, columns_end, divisor, delta,
                GRADIENTS, NORMALIZE, COLUMNS, wide, OPERAND,
            )  # fmt: skip
            weights = tl.zeros([CHUNK, CHUNK], wide)
            for b in tl.static_range(1 if POLYNOMIAL else TILES):
                turned = tl.trans(z_tiles[b].to(RAW))
                weights = dot(x_tiles[b].to(RAW), turned, weights, PRECISION)
            if POLYNOMIAL:
                weights *= tl.full([1, 1], SCALE, wide)
                if MAP == "taylor":
                    weights = 1 + weights * (1 + 0.5 * weights)
                else:
                    weights *= weights
            seen = t[:, None] >= s[None, :]
            if REVERSE:
                seen = t[:, None] <= s[None, :]
            weights = tl.where(seen, weights, 0)
            value = dot(weights.to(OPERAND), w_c, value, PRECISION)
            if WEIGHTS:
                total += tl.sum(weights, 1)

    if WEIGHTS:
        total = tl.where(live, total + tl.full([1], EPS, wide), 1)
        value /= total[:, None]
        if block == 0:
            tl.store(out_last + line + t, total, t < length)
    value = tl.where(live[:, None], value, 0)
    mask = (t < length)[:, None] & (column < columns)[None, :]
    places = out + (line + first) * columns + tl.arange(0, CHUNK)[:, None] * columns
    tl.store(places + column[None, :], value.to(out.dtype.element_ty), mask)
