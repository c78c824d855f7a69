"""Features and states of `linear_attention` as tiles on chip.

Features come in tiles of ROWS. Those of a polynomial map are unfolded here: row i·DP + j is x_i x_j
for all i and j; in Taylor's, then, row d·DP + j is x_j and row (d + 1)·DP is 1. None has a
coefficient. So a feature is one product, and its gradient needs no table of pairs:

    Σ_{i ≤ j} c_ij² q_i q_j S_ij = c₂ Σ_{i, j} q_i q_j S_ij        d/dq_j = 2 c₂ Σ_i q_i S_ij

In memory the state is folded and has its coefficients, as `features.py` says. `place` knows where a
row of a tile is there, what a sum of products is multiplied by to be stored, and what a stored row
is multiplied by to be read.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Sum of acc (I, J) and the product of a (I, K) and b (K, J)."""
    if acc.dtype == tl.float64:  # not every Triton from 3.4 on has a tl.dot of it
        acc += tl.sum(a[:, :, None] * b[None, :, :], 1)
    elif a.dtype == tl.float32:
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    else:
        acc = tl.dot(a, b, acc)
    return acc


@triton.jit
def span(spans, n, time, SPANS: tl.constexpr):
    """Where sequence n begins in time, how many steps it has, and how many of them count."""
    begin, length, valid = 0, time, time
    if SPANS == "lengths":
        valid = tl.minimum(tl.maximum(tl.load(spans + n).to(tl.int32), 0), time)
    elif SPANS == "packed":
        begin = tl.load(spans + n).to(tl.int32)
        length = tl.load(spans + n + 1).to(tl.int32) - begin
        valid = length
    return begin, length, valid


@triton.jit
def first_slot(n, begin, length, segments, SEGMENT: tl.constexpr, SPANS: tl.constexpr):
    """Where in memory the states of sequence n begin, one after another, and how many they are.

    Packed sequences together have no more than all of time, and one each: none of their slots meet.
    """
    slot, count = n * segments, segments
    if SPANS == "packed":
        slot, count = begin // SEGMENT + n, tl.cdiv(length, SEGMENT)
    return slot, count


@triton.jit
def load(at, mask, wide: tl.constexpr, dtype: tl.constexpr):
    """Numbers in `dtype`. They pass through `wide`: the interpreter cannot convert bfloat16."""
    return tl.load(at, mask, other=0).to(wide).to(dtype)


@triton.jit
def load_steps(p, step, live, first, end, SIZE: tl.constexpr, wide: tl.constexpr,
               dtype: tl.constexpr):  # fmt: skip
    """Numbers from `first` on of some steps (C, SIZE); zeros from `end` on, where there is one."""
    j = first + tl.arange(0, SIZE)
    at = p + tl.arange(0, live.shape[0])[:, None] * step + j[None, :]
    mask = live[:, None]
    if end is not None:
        mask = mask & (j < end)[None, :]
    return load(at, mask, wide, dtype)


@triton.jit
def load_values(
    p, step, weights_at, live, first, end, divisor, delta, GRADIENTS: tl.constexpr,
    NORMALIZE: tl.constexpr, COLUMNS: tl.constexpr, wide: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Values v, or the sums' gradient g, of some steps (C, COLUMNS), and their last column (C,)."""
    values = load_steps(p, step, live, first, end, COLUMNS, wide, wide)
    last = live.to(wide)
    if GRADIENTS and NORMALIZE:
        at = weights_at + tl.arange(0, live.shape[0])
        values /= tl.load(divisor + at, live, other=1)[:, None]
        last = tl.load(delta + at, live, other=0)
    return values.to(dtype), last


@triton.jit
def first_column(last, dtype: tl.constexpr):
    """(C, 16) with `last` (C,) in its first column; matrix instructions do no less."""
    return tl.where(tl.arange(0, 16)[None, :] == 0, last[:, None], 0).to(dtype)


@triton.jit
def load_tile(
    p, step, live, tile, end, MAP: tl.constexpr, ROWS: tl.constexpr, wide: tl.constexpr,
    dtype: tl.constexpr,
):  # fmt: skip
    """φ of some steps (C, ROWS), one tile of a map that is not a polynomial."""
    if MAP == "identity":
        phi = load_steps(p, step, live, tile * ROWS, end, ROWS, wide, dtype)
    else:
        x = load_steps(p, step, live, 0, end, ROWS, wide, wide) * (1 - 2 * tile)
        if end is not None:
            x = tl.where((tl.arange(0, ROWS) < end)[None, :], x, float("-inf"))
        x = tl.exp(x - tl.max(x, 1, keep_dims=True))
        phi = (x / tl.sum(x, 1, keep_dims=True)).to(dtype)
    return phi


@triton.jit
def load_tiles(
    p, step, live, tile, end, MAP: tl.constexpr, TILES: tl.constexpr, ROWS: tl.constexpr,
    DP: tl.constexpr, wide: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """What makes a weight: φ in TILES tiles, or x itself (C, DP) for a polynomial of q·k."""
    tiles = ()
    if MAP == "taylor" or MAP == "quadratic":
        tiles += (load_steps(p, step, live, 0, end, DP, wide, dtype),)
    else:
        for b in tl.static_range(TILES):
            tiles += (load_tile(p, step, live, tile + b, end, MAP, ROWS, wide, dtype),)
    return tiles


@triton.jit
def load_firsts(
    p, step, live, tile, d, MAP: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    wide: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """The x_i of the rows i·DP + j of a tile (C, ROWS / DP); 1 for Taylor's linear features."""
    first = tile * (ROWS // DP)
    found = load_steps(p, step, live, first, d, ROWS // DP, wide, dtype)
    if MAP == "taylor":
        i = first + tl.arange(0, ROWS // DP)
        found = tl.where((i == d)[None, :], 1, found).to(dtype)
    return found


@triton.jit
def _constant(tile, d, ROWS: tl.constexpr, DP: tl.constexpr, dtype: tl.constexpr):
    """1 in the row of Taylor's constant feature, (ROWS / DP, DP)."""
    i = tile * (ROWS // DP) + tl.arange(0, ROWS // DP)
    return ((i == d + 1)[:, None] & (tl.arange(0, DP) == 0)[None, :]).to(dtype)


@triton.jit
def products(x, firsts, tile, d, MAP: tl.constexpr, ROWS: tl.constexpr):
    """φ of a tile of a polynomial map (C, ROWS), from x (C, DP)."""
    phi = firsts[:, :, None] * x[:, None, :]
    if MAP == "taylor":
        phi += _constant(tile, d, ROWS, x.shape[1], x.dtype)[None, :, :]
    return tl.reshape(phi, [x.shape[0], ROWS])


@triton.jit
def turned_products(x, firsts, tile, d, MAP: tl.constexpr, ROWS: tl.constexpr):
    """The same as (ROWS, C)."""
    phi = tl.trans(firsts)[:, None, :] * tl.trans(x)[None, :, :]
    if MAP == "taylor":
        phi += _constant(tile, d, ROWS, x.shape[1], x.dtype)[:, :, None]
    return tl.reshape(phi, [ROWS, x.shape[0]])


@triton.jit
def state_size(d, columns, MAP: tl.constexpr, NORMALIZE: tl.constexpr):
    """How many numbers a state has in memory."""
    rows = d
    if MAP == "softmax_pair":
        rows = 2 * d
    elif MAP == "taylor":
        rows = 1 + d + d * (d + 1) // 2
    elif MAP == "quadratic":
        rows = d * (d + 1) // 2
    return tl.full([], 1, tl.int64) * rows * (columns + (1 if NORMALIZE else 0))


@triton.jit
def place(
    tile, d, MAP: tl.constexpr, SCALE: tl.constexpr, ROWS: tl.constexpr, DP: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Of the rows of a tile: row in memory, whether it exists, is kept, factors to store and read.

    Of x_i x_j and x_j x_i one is kept.
    """
    r = tl.arange(0, ROWS)
    one = tl.full([ROWS], 1, wide)
    f, exists, stored, read = tile * ROWS + r, tile * ROWS + r < d, one, one
    kept = exists
    if MAP == "softmax_pair":
        f, exists, kept = tile * d + r, r < d, r < d
    elif MAP != "identity":
        i, j = (tile * ROWS + r) // DP, r % DP
        low, high = tl.minimum(i, j), tl.maximum(i, j)
        f = low * d - low * (low - 1) // 2 + high - low
        exists = high < d
        kept = exists & (i <= j)
        # To store: the coefficient of the feature. To read: c₂ over it.
        half: tl.constexpr = 0.5 if MAP == "taylor" else 1.0
        stored = tl.where(i == j, one * (SCALE * half**0.5), one * (SCALE * (2 * half) ** 0.5))
        read = tl.where(i == j, one * (SCALE * half**0.5), one * (SCALE * (half / 2) ** 0.5))
        if MAP == "taylor":
            linear, constant = (i == d) & (j < d), (i == d + 1) & (j == 0)
            f = tl.where(linear, 1 + j, f + 1 + d)
            f = tl.where(constant, 0, f)
            exists = exists | linear | constant
            kept = kept | linear | constant
            stored = tl.where(linear, one * SCALE**0.5, stored)
            stored = tl.where(constant, one, stored)
            read = tl.where(linear, one * SCALE**0.5, read)
            read = tl.where(constant, one, read)
    return f, exists, kept, stored, read
