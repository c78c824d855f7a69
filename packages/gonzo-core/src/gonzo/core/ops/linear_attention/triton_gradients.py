"""Gradients of q and of k in `linear_attention`, by one kernel: each is the other's, reversed.

    dφ(q) = g Sᵀ + tril(g wᵀ) φ(k)        x, z, w, own = q, k, [v, 1], g
    dφ(k) = w Rᵀ + tril(g wᵀ)ᵀ φ(q)       x, z, w, own = k, q, g, [v, 1], in REVERSE

with S and R the states before and after a segment. A program owns a chunk of steps x, and one tile
of features in the identity map. Within a segment the gradient of a polynomial of q·k is one of q·k.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_tiles import (
    dot,
    first_column,
    first_slot,
    load_firsts,
    load_tile,
    load_tiles,
    load_values,
    place,
    span,
    state_size,
)


@triton.jit
def _through_state(
    state, own, own_last, tile, d, columns, MAP: tl.constexpr, SCALE: tl.constexpr,
    NORMALIZE: tl.constexpr, BLOCKS: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    COLUMNS: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr, wide: tl.constexpr,
):  # fmt: skip
    """The gradient of φ of one tile (C, ROWS) through what is read of the state."""
    f, exists, _, _, factor = place(tile, d, MAP, SCALE, ROWS, DP, wide)
    at = state + f[:, None] * (columns + (1 if NORMALIZE else 0))
    d_phi = tl.zeros([own_last.shape[0], ROWS], wide)
    for b in tl.static_range(BLOCKS):
        column = b * COLUMNS + tl.arange(0, COLUMNS)
        mask = exists[:, None] & (column < columns)[None, :]
        part = tl.load(at + column[None, :], mask, other=0) * factor[:, None]
        d_phi = dot(own[b], tl.trans(part.to(OPERAND)), d_phi, PRECISION)
    if NORMALIZE:
        lane = tl.arange(0, 16)[None, :]
        part = tl.load(at + columns + lane, exists[:, None] & (lane == 0), other=0)
        turned = tl.trans((part * factor[:, None]).to(OPERAND))
        d_phi = dot(first_column(own_last, OPERAND), turned, d_phi, PRECISION)
    return d_phi


@triton.jit
def differentiate(
    x, z, w, own, divisor, delta, spans, states, dx,
    d, columns, heads, time, kept_states, tiles,
    x_n, x_h, x_t, z_n, z_h, z_t, w_n, w_h, w_t, own_n, own_h, own_t,
    SEGMENT: tl.constexpr, SCALE: tl.constexpr, MAP: tl.constexpr, SPANS: tl.constexpr,
    CAUSAL: tl.constexpr, NORMALIZE: tl.constexpr, REVERSE: tl.constexpr,
    BLOCKS: tl.constexpr, TILES: tl.constexpr,
    ROWS: tl.constexpr, DP: tl.constexpr, COLUMNS: tl.constexpr, EVEN_D: tl.constexpr,
    EVEN_COLUMNS: tl.constexpr, RAW: tl.constexpr, OPERAND: tl.constexpr,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Where time is in REVERSE, w are gradients and `own` values; otherwise the other way round."""
    wide: tl.constexpr = states.dtype.element_ty
    POLYNOMIAL: tl.constexpr = MAP == "taylor" or MAP == "quadratic"
    d_end, columns_end = None if EVEN_D else d, None if EVEN_COLUMNS else columns
    chunks = tl.cdiv(time, CHUNK)
    program = tl.program_id(0)
    tile = 0
    if MAP == "identity":
        tile = program % tiles
        program = program // tiles
    first = program % chunks * CHUNK
    row = (program // chunks).to(tl.int64)
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
    own += batch * own_n + head * own_h + (begin + first) * one * own_t
    t = first + tl.arange(0, CHUNK)
    live = t < valid
    cut = first // SEGMENT
    slot = n
    if kept_states > 1:
        slot, _ = first_slot(n, begin, length, kept_states, SEGMENT, SPANS)
        slot += cut
    state = states + (slot * heads + head) * state_size(d, columns, MAP, NORMALIZE)
    g = ()
    for b in tl.static_range(BLOCKS):
        values, g_last = load_values(
            own, own_t, line + first, live, b * COLUMNS, columns_end, divisor, delta, not REVERSE,
            NORMALIZE, COLUMNS, wide, OPERAND,
        )  # fmt: skip
        g += (values,)
    x_tiles = load_tiles(x, x_t, live, 0, d_end, MAP, TILES, ROWS, DP, wide, OPERAND)

    if POLYNOMIAL:
        gradient = tl.zeros([CHUNK, DP], wide)
        for part in range(tiles):
            d_phi = _through_state(
                state, g, g_last, part, d, columns, MAP, SCALE, NORMALIZE, BLOCKS, ROWS, DP,
                COLUMNS, OPERAND, PRECISION, wide,
            )  # fmt: skip
            of = load_firsts(x, x_t, live, part, d, MAP, ROWS, DP, wide, wide)
            of *= tl.where(part * (ROWS // DP) + tl.arange(0, ROWS // DP) < d, 2, 1)[None, :]
            d_phi = tl.reshape(d_phi, [CHUNK, ROWS // DP, DP])
            gradient += tl.sum(d_phi * of[:, :, None], 1)
    else:
        # Of φ(x); `second` is of the other half of a softmax pair.
        gradient = _through_state(
            state, g, g_last, tile, d, columns, MAP, SCALE, NORMALIZE, BLOCKS, ROWS, DP, COLUMNS,
            OPERAND, PRECISION, wide,
        )  # fmt: skip
        if MAP == "softmax_pair":
            second = _through_state(
                state, g, g_last, 1, d, columns, MAP, SCALE, NORMALIZE, BLOCKS, ROWS, DP,
                COLUMNS, OPERAND, PRECISION, wide,
            )  # fmt: skip

    if CAUSAL:
        from_step, to_step = cut * SEGMENT, tl.minimum(first + CHUNK, valid)
        if REVERSE:
            from_step, to_step = first, tl.minimum((cut + 1) * SEGMENT, valid)
        for at_step in range(from_step, to_step, CHUNK):
            s = at_step + tl.arange(0, CHUNK)
            there = s < valid
            far = at_step * one
            slope = tl.zeros([CHUNK, CHUNK], wide)
            for b in tl.static_range(BLOCKS):
                values, w_last = load_values(
                    w + far * w_t, w_t, line + far, there, b * COLUMNS, columns_end, divisor, delta,
                    REVERSE, NORMALIZE, COLUMNS, wide, OPERAND,
                )  # fmt: skip
                slope = dot(g[b], tl.trans(values), slope, PRECISION)
            if NORMALIZE:
                slope += g_last[:, None] * w_last[None, :]
            seen = t[:, None] >= s[None, :]
            if REVERSE:
                seen = t[:, None] <= s[None, :]
            z_at = z + far * z_t
            if POLYNOMIAL:
                z_tiles = load_tiles(
                    z_at, z_t, there, 0, d_end, MAP, TILES, ROWS, DP, wide, OPERAND
                )
                scores = tl.zeros([CHUNK, CHUNK], wide)
                turned = tl.trans(z_tiles[0].to(RAW))
                scores = dot(x_tiles[0].to(RAW), turned, scores, PRECISION)
                factor = tl.full([1, 1], SCALE, wide)
                if MAP == "taylor":
                    slope *= factor * (1 + factor * scores)
                else:
                    slope *= 2 * factor * factor * scores
                slope = tl.where(seen, slope, 0).to(OPERAND)
                gradient = dot(slope, z_tiles[0], gradient, PRECISION)
            else:
                slope = tl.where(seen, slope, 0).to(OPERAND)
                phi = load_tile(z_at, z_t, there, tile, d_end, MAP, ROWS, wide, OPERAND)
                gradient = dot(slope, phi, gradient, PRECISION)
                if MAP == "softmax_pair":
                    phi = load_tile(z_at, z_t, there, 1, d_end, MAP, ROWS, wide, OPERAND)
                    second = dot(slope, phi, second, PRECISION)

    if MAP == "softmax_pair":
        phi = load_tile(x, x_t, live, 0, d_end, MAP, ROWS, wide, wide)
        gradient = phi * (gradient - tl.sum(gradient * phi, 1, keep_dims=True))
        phi = load_tile(x, x_t, live, 1, d_end, MAP, ROWS, wide, wide)
        gradient -= phi * (second - tl.sum(second * phi, 1, keep_dims=True))
    j = tile * ROWS + tl.arange(0, DP if POLYNOMIAL else ROWS)
    places = dx + (line + first) * d + tl.arange(0, CHUNK)[:, None] * d + j[None, :]
    mask = (t < length)[:, None] & (j < d)[None, :]
    tl.store(places, gradient.to(dx.dtype.element_ty), mask)


@triton.jit
def sum_gradients(
    grad, y, divisor, delta, numbers, heads, time, columns, grad_n, grad_h, grad_t,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the sum of weights, -(grad · y) / divisor."""
    wide: tl.constexpr = delta.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    t, line = row % time, row // time
    at = grad + line // heads * grad_n + line % heads * grad_h + t * grad_t
    total = tl.zeros([ROWS], wide)
    for first in range(0, columns, COLUMNS):
        column = (first + tl.arange(0, COLUMNS))[None, :]
        mask = (row < numbers)[:, None] & (column < columns)
        a = tl.load(at[:, None] + column, mask, other=0).to(wide)
        b = tl.load(y + row[:, None] * columns + column, mask, other=0).to(wide)
        total += tl.sum(a * b, 1)
    total = -total / tl.load(divisor + row, row < numbers, other=1)
    tl.store(delta + row, total, row < numbers)
