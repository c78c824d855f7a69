"""What the kernels of `linear_scan` share: places, numbers and steps of arrays, in Triton.

A number is a pair of tensors, real and imaginary parts. Of a real number both are the value, and
nobody reads the second: the compiler drops it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile(number):
    """(1, 1), in 64 bits; the interpreter takes `mask & (scalar < n)` for a tensor of integers."""
    return tl.zeros([1, 1], tl.int64) + number


@triton.jit
def place(batch, d, chunks, ROWS: tl.constexpr, LANES: tl.constexpr):
    """The chunk of this program, its rows (ROWS, 1), its features (1, LANES), and which exist."""
    blocks = tl.cdiv(d, LANES)
    program = tl.program_id(0)
    lanes = (program % blocks * LANES + tl.arange(0, LANES)).to(tl.int64)[None, :]
    chunk = program // blocks % chunks
    rows = (program // blocks // chunks * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    return chunk, rows, lanes, (rows < batch) & (lanes < d)


@triton.jit
def decay_place(
    rows, lanes, batch, time, d,
    A_BATCH: tl.constexpr, A_TIME: tl.constexpr, A_D: tl.constexpr,
):  # fmt: skip
    """Where this program's decays of time 0 lie, which exist, and the distance between steps.

    The tile has one row where the batch shares decays, and one column where features do.
    """
    width = d if A_D else 1
    places = tl.zeros([1, 1], tl.int64)
    mask = places == 0
    if A_BATCH:
        places = rows * (time if A_TIME else 1) * width
        mask = rows < batch
    if A_D:
        places = places + lanes
        mask = mask & (lanes < d)
    return places, mask, width


@triton.jit
def read(p, places, mask, PAIRS: tl.constexpr):
    """Numbers in working precision, zero where `mask` forbids to read."""
    if PAIRS:
        both = tl.load(p + (2 * places[:, :, None] + tl.arange(0, 2)), mask[:, :, None], other=0)
        re, im = tl.split(both)
    else:
        re = tl.load(p + places, mask, other=0)
        im = re
    if re.dtype != tl.float64:
        re = re.to(tl.float32)
        im = im.to(tl.float32)
    return re, im


@triton.jit
def write(p, places, re, im, mask, PAIRS: tl.constexpr):
    """Numbers, rounded to what `p` holds."""
    dtype: tl.constexpr = p.dtype.element_ty
    if PAIRS:
        both = tl.join(re, im).to(dtype)
        tl.store(p + (2 * places[:, :, None] + tl.arange(0, 2)), both, mask[:, :, None])
    else:
        tl.store(p + places, re.to(dtype), mask)


@triton.jit
def read_steps(
    p, places, mask, start, first, time, width,
    REVERSE: tl.constexpr, PAIRS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """STEPS steps from the position `start` on; zero before the position `first` and after time.

    A position counts from where the walk begins.
    """
    re = ()
    im = ()
    for i in tl.static_range(STEPS):
        position = start + i
        exists = (position >= first) & (position < time)
        t = time - 1 - position if REVERSE else position
        now_re, now_im = read(p, places + t * width, mask & exists, PAIRS)
        re += (now_re,)
        im += (now_im,)
    return re, im


@triton.jit
def read_decays(
    a, places, mask, always_re, always_im, start, time, width,
    FIRST: tl.constexpr, BACK: tl.constexpr, REVERSE: tl.constexpr, PAIRS: tl.constexpr,
    A_TIME: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """The decays on the way to STEPS positions from `start` on; zero before the position FIRST.

    BACK: those of the positions before, conjugated. Zero, and not what lies there: without an
    initial state the first decay is not used, even if it is NaN.
    """
    if A_TIME:
        re, im = read_steps(
            a, places, mask, start - BACK, FIRST - BACK, time, width, REVERSE, PAIRS, STEPS
        )
    else:
        re = ()
        im = ()
        for i in tl.static_range(STEPS):
            re += (tl.where(start + i >= FIRST, always_re, 0),)
            im += (tl.where(start + i >= FIRST, always_im, 0),)
    if BACK:
        conjugate = ()
        for i in tl.static_range(STEPS):
            conjugate += (-im[i],)
        im = conjugate
    return re, im


@triton.jit
def times(a_re, a_im, b_re, b_im, PAIRS: tl.constexpr):
    """The product of two numbers."""
    if PAIRS:
        re = a_re * b_re - a_im * b_im
        im = a_re * b_im + a_im * b_re
    else:
        re = a_re * b_re
        im = re
    return re, im


@triton.jit
def fold(
    h_re, h_im, products, ends, chunk, chunks, rows, lanes, mask, d,
    PAIRS: tl.constexpr, STEPS: tl.constexpr = 8,
):  # fmt: skip
    """The state before `chunk`, from the one before the first chunk."""
    places = rows * (chunks - 1) * d + lanes
    for begin in range(0, chunk, STEPS):
        start = tile(begin)
        p_re, p_im = read_steps(products, places, mask, start, 0, chunk, d, False, PAIRS, STEPS)
        e_re, e_im = read_steps(ends, places, mask, start, 0, chunk, d, False, PAIRS, STEPS)
        for i in tl.static_range(STEPS):
            re, im = times(p_re[i], p_im[i], h_re, h_im, PAIRS)
            # A product that overflowed must not make NaN of a state that is still zero.
            zero = (h_re == 0) & (h_im == 0)
            before = start + i < chunk
            h_re = tl.where(before, tl.where(zero, 0, re) + e_re[i], h_re)
            h_im = tl.where(before, tl.where(zero, 0, im) + e_im[i], h_im)
    return h_re, h_im


@triton.jit
def summed(re, im, A_BATCH: tl.constexpr, A_D: tl.constexpr):
    """The tile summed over what shares a decay."""
    if not A_BATCH:
        re = tl.sum(re, 0, keep_dims=True)
        im = tl.sum(im, 0, keep_dims=True)
    if not A_D:
        re = tl.sum(re, 1, keep_dims=True)
        im = tl.sum(im, 1, keep_dims=True)
    return re, im
