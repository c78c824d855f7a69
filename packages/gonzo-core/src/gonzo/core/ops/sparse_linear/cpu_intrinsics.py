"""The innermost loops of `cpu_kernels`, as functions that Numba's loops may call."""

from __future__ import annotations

from typing import Any

import numba.extending
from llvmlite import ir
from numba import types

from .cpu_vectors import INDEX, Vectors

GATHERED_BYTES = 64
_AHEAD = 4096  # bytes of a stream to prefetch: the processor's own prefetcher stops at a page
_NEXT_COLUMNS = 256  # bytes of a row of x to prefetch ahead of its transposition

intrinsic: Any = numba.extending.intrinsic  # its types do not know calls from kernels


def _add_up(builder: Any, sums: list[Any]) -> Any:
    while len(sums) > 1:
        sums = [builder.fadd(x, y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


@intrinsic
def pointer(_, address, like):
    """A pointer to numbers of the type of the array `like`."""
    signature = types.CPointer(like.dtype)(types.int64, like)

    def generate(context, builder, signature, arguments):
        to = context.get_value_type(signature.return_type)
        return builder.inttoptr(arguments[0], to)

    return signature, generate


@intrinsic
def unaligned(_, array):
    """How many numbers come before the first that is at a multiple of 64 bytes."""
    signature = types.int64(array)

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        before = builder.and_(builder.neg(builder.ptrtoint(data, INDEX)), INDEX(63))
        return builder.udiv(before, INDEX(signature.args[0].dtype.bitwidth // 8))

    return signature, generate


@intrinsic(prefer_literal=True)
def sum_row(
    _, size, unroll, first, last, values, columns, tile, at, out, to, width, bias
):  # fmt: skip
    """Store ``out[to:to + width] = bias + Σ values[k] tile[columns[k]]`` over first <= k < last.

    The sum has `unroll` parts, a power of two, so that one addition need not wait for another.
    """
    signature = types.void(size, unroll, types.int64, types.int64, values, columns, tile,
                           types.int64, out, types.int64, types.int64, values.dtype)  # fmt: skip
    bytes_, parts = size.literal_value, unroll.literal_value

    def generate(context, builder, signature, arguments):
        v = Vectors((context, builder, signature, arguments), bytes_, 4)
        b = builder
        first, last, at, to, width, bias = (arguments[i] for i in (2, 3, 7, 9, 10, 11))
        numbers, indices, x = v.pointer(4), v.pointer(5), v.pointer(6, at)

        def add(k, total):
            column = b.zext(b.load(b.gep(indices, [k])), INDEX)
            row = v.load(b.gep(x, [b.mul(column, INDEX(v.n))]))
            return v.fma(v.splat(b.load(b.gep(numbers, [k]))), row, total)

        def some(k, sums):
            return [add(b.add(k, INDEX(i)), s) for i, s in enumerate(sums)]

        def one(k, sums):
            return [add(k, sums[0]), *sums[1:]]

        for line in range(0, bytes_, 64):
            v.prefetch(v.pointer(8, b.add(to, INDEX((_AHEAD + line) // v.bytes))), 1)
        k, sums = v.loop(first, last, parts, [v.splat(bias)] + [v.zero] * (parts - 1), some)
        if parts > 1:
            _, sums = v.loop(k, last, 1, sums, one)
        v.store(_add_up(b, sums), v.pointer(8, to), width)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def dot_row(_, first, last, values, columns, x):
    """Return Σ values[k] x[columns[k]] over first <= k < last, reading up to 64 bytes beyond."""
    signature = values.dtype(types.int64, types.int64, values, columns, x)

    def generate(context, builder, signature, arguments):
        v = Vectors((context, builder, signature, arguments), GATHERED_BYTES, 2)
        b = builder
        numbers, indices, base = v.pointer(2), v.pointer(3), v.pointer(4)
        kind = context.get_value_type(signature.args[3].dtype)

        def add(k, total, mask=None):
            w = v.load(b.gep(numbers, [k]))
            if mask is not None:
                w = b.select(mask, w, v.zero)
            return v.fma(w, v.gather(base, b.gep(indices, [k]), kind, mask), total)

        def two(k, sums):
            for i in range(2):
                ahead = b.add(k, INDEX(i * v.n + _AHEAD // v.bytes))
                v.prefetch(b.gep(numbers, [ahead]))
            v.prefetch(b.gep(indices, [b.add(k, INDEX(_AHEAD * 8 // kind.width))]))
            return [add(k, sums[0]), add(b.add(k, INDEX(v.n)), sums[1])]

        def one(k, sums):
            v.prefetch(b.gep(numbers, [b.add(k, INDEX(_AHEAD // v.bytes))]))
            v.prefetch(b.gep(indices, [b.add(k, INDEX(_AHEAD * 8 // kind.width))]))
            return [add(k, sums[0]), sums[1]]

        k, sums = v.loop(arguments[0], arguments[1], 2 * v.n, [v.zero] * 2, two)
        k, sums = v.loop(k, arguments[1], v.n, sums, one)
        total = b.fadd(*sums)
        rest, before = b.sub(arguments[1], k), b.block
        with b.if_then(b.icmp_signed(">", rest, INDEX(0))):
            v.prefetch(b.gep(numbers, [b.add(k, INDEX(_AHEAD // v.bytes))]))
            v.prefetch(b.gep(indices, [b.add(k, INDEX(_AHEAD * 8 // kind.width))]))
            longer, inside = add(k, total, v.below(rest)), b.block
        whole = b.phi(v.type)
        whole.add_incoming(total, before)
        whole.add_incoming(longer, inside)
        return v.total(whole)

    return signature, generate


@intrinsic(prefer_literal=True)
def sum_rows_of_blocks(
    _, size, count, first, last, edge, row, values, columns, tile, at, out, to, stride, width, bias
):  # fmt: skip
    """As `sum_row` for `count` rows of blocks, from row `row` of each of `edge` rows."""
    signature = types.void(size, count, types.int64, types.int64, types.int64, types.int64, values,
                           columns, tile, types.int64, out, types.int64, types.int64, types.int64,
                           bias)  # fmt: skip
    bytes_, n_row = size.literal_value, count.literal_value

    def generate(context, builder, signature, arguments):
        v = Vectors((context, builder, signature, arguments), bytes_, 6)
        b = builder
        first, last, edge, row = arguments[2:6]
        at, to, stride, width = (arguments[i] for i in (9, 11, 12, 13))
        numbers, indices, x, biases = v.pointer(6), v.pointer(7), v.pointer(8, at), v.pointer(14)
        area = b.mul(edge, edge)

        def add_block(k, sums):
            column = b.mul(b.zext(b.load(b.gep(indices, [k])), INDEX), edge)
            corner = b.add(b.mul(k, area), b.mul(row, edge))

            def add_column(j, sums):
                lanes = v.load(b.gep(x, [b.mul(b.add(column, j), INDEX(v.n))]))
                start = b.add(corner, j)
                places = [b.add(start, b.mul(edge, INDEX(i))) for i in range(n_row)]
                weights = [v.splat(b.load(b.gep(numbers, [place]))) for place in places]
                return [v.fma(w, lanes, s) for w, s in zip(weights, sums, strict=True)]

            return v.loop(INDEX(0), edge, 1, sums, add_column)[1]

        rows = [b.add(row, INDEX(i)) for i in range(n_row)]
        sums = [v.splat(b.load(b.gep(biases, [r]))) for r in rows]
        _, sums = v.loop(first, last, 1, sums, add_block)
        for i, s in enumerate(sums):
            v.store(s, v.pointer(10, b.add(to, b.mul(stride, INDEX(i)))), width)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def sample_row(_, size, first, last, columns, tile, at, grad, row, out):
    """Add ``Σ grad[row:] tile[columns[k]]`` over the lanes to ``out[k]`` for first <= k < last."""
    signature = types.void(size, types.int64, types.int64, columns, tile, types.int64, grad,
                           types.int64, out)  # fmt: skip
    bytes_ = size.literal_value

    def generate(context, builder, signature, arguments):
        v = Vectors((context, builder, signature, arguments), bytes_, 4)
        b = builder
        indices, x = v.pointer(3), v.pointer(4, arguments[5])
        dy = v.load(v.pointer(6, arguments[7]))

        def sample(k, _):
            column = b.zext(b.load(b.gep(indices, [k])), INDEX)
            lanes = v.load(b.gep(x, [b.mul(column, INDEX(v.n))]))
            to = v.pointer(8, k)
            b.store(b.fadd(b.load(to), v.total(b.fmul(dy, lanes))), to)
            return []

        v.loop(arguments[1], arguments[2], 1, [], sample)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def transpose(_, size, x, at, stride, out, to, out_stride):
    """Transpose a square of numbers, each row of which is a vector of `size` bytes."""
    signature = types.void(size, x, types.int64, types.int64, out, types.int64, types.int64)
    bytes_ = size.literal_value

    def generate(context, builder, signature, arguments):
        v = Vectors((context, builder, signature, arguments), bytes_, 1)
        b = builder
        at, stride, to, out_stride = (arguments[i] for i in (2, 3, 5, 6))
        places = [v.pointer(1, b.add(at, b.mul(stride, INDEX(i)))) for i in range(v.n)]
        for place in places:  # so many streams are more than the processor follows
            v.prefetch(b.gep(place, [INDEX(_NEXT_COLUMNS // v.bytes)]))
        rows = [v.load(place) for place in places]
        pairs = [lane for i in range(v.n) for lane in (i, i + v.n)]  # of two rows in turn
        low, high = (ir.Constant(v.lanes, half) for half in (pairs[: v.n], pairs[v.n :]))
        for _ in range(v.n.bit_length() - 1):
            both = zip(rows[: v.n // 2], rows[v.n // 2 :], strict=True)
            rows = [b.shuffle_vector(x, y, half) for x, y in both for half in (low, high)]
        for i, row in enumerate(rows):
            v.store(row, v.pointer(4, b.add(to, b.mul(out_stride, INDEX(i)))), INDEX(v.n))
        return context.get_dummy_value()

    return signature, generate
