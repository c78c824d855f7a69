"""Loops over the rows of a sparse matrix whose sums stay in vector registers.

x lies in tiles (in, lanes) of the batch, one after the other; a tile is up to 256 bytes wide.
Tensors come as addresses: an array of NumPy takes 10 µs to make where the code that makes it is not
in the cache.
"""

from __future__ import annotations

from gonzo.core.numba_kernels import kernel

from .cpu_intrinsics import (
    GATHERED_BYTES,
    dot_row,
    pointer,
    sample_row,
    sum_row,
    sum_rows_of_blocks,
    transpose,
    unaligned,
)


@kernel(allocates=False)
def tile_bytes(rest):
    """Bytes along the batch of the next tile, where `rest` bytes are left."""
    if rest > 128:
        return 256
    if rest > 64:
        return 128
    return 64 if rest > 32 else 32


@kernel(allocates=False)
def sum_rows(start, stop, values, columns, first, bias, tiles, n_in, out, batch):
    """Rows of ``out = W x + bias``.

    Args:
        start: the first row.
        stop: the row after the last.
        values: (n,)
        columns: (n,)
        first: (out + 1,)
        bias: (out,)
        tiles: x in tiles, flat, from the first multiple of 64 bytes on: a vector across two
            cache lines takes twice as long to load.
        n_in: columns of W.
        out: address of (out, batch).
        batch: columns of `out`.
    """
    out, origin = pointer(out, values), unaligned(tiles)
    size = values.itemsize
    for begin in range(0, batch, 256 // size):
        rest = batch - begin
        bytes_ = tile_bytes(rest * size)
        width, at = min(rest, bytes_ // size), origin + begin * n_in
        if bytes_ == 256:
            for r in range(start, stop):
                sum_row(256, 2, first[r], first[r + 1], values, columns, tiles, at, out,
                         r * batch + begin, width, bias[r])  # fmt: skip
        elif bytes_ == 128:
            for r in range(start, stop):
                sum_row(128, 4, first[r], first[r + 1], values, columns, tiles, at, out,
                         r * batch + begin, width, bias[r])  # fmt: skip
        elif bytes_ == 64:
            for r in range(start, stop):
                sum_row(64, 8, first[r], first[r + 1], values, columns, tiles, at, out,
                         r * batch + begin, width, bias[r])  # fmt: skip
        else:
            for r in range(start, stop):
                sum_row(32, 8, first[r], first[r + 1], values, columns, tiles, at, out,
                         r * batch + begin, width, bias[r])  # fmt: skip


@kernel(allocates=False)
def dot_rows(start, stop, values, columns, first, bias, x, n_in, out, n_out):
    """Rows of ``out = W x + bias`` for addresses of one x (in,), whose numbers are gathered."""
    x, out = pointer(x, values), pointer(out, values)
    last = values.size - GATHERED_BYTES // values.itemsize  # a vector from there on is readable
    for r in range(start, stop):
        if first[r + 1] <= last:
            out[r] = bias[r] + dot_row(first[r], first[r + 1], values, columns, x)
        else:
            total = bias[r]
            for k in range(first[r], first[r + 1]):
                total += values[k] * x[columns[k]]
            out[r] = total


@kernel(allocates=False)
def sum_block_rows(start, stop, values, columns, first, bias, tiles, n_in, out, batch, edge):
    """As `sum_rows` for rows of blocks with `edge` rows each; `values` are flat."""
    out, origin = pointer(out, values), unaligned(tiles)
    size = values.itemsize
    for begin in range(0, batch, 256 // size):
        rest = batch - begin
        bytes_ = tile_bytes(rest * size)
        width, at = min(rest, bytes_ // size), origin + begin * n_in
        for i in range(start, stop):
            biases = bias[i * edge : (i + 1) * edge]
            row = 0
            while row < edge:
                four = row + 4 <= edge
                to = (i * edge + row) * batch + begin
                if bytes_ == 256 and four:
                    sum_rows_of_blocks(256, 4, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif bytes_ == 256:
                    sum_rows_of_blocks(256, 1, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif bytes_ == 128 and four:
                    sum_rows_of_blocks(128, 4, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif bytes_ == 128:
                    sum_rows_of_blocks(128, 1, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif bytes_ == 64 and four:
                    sum_rows_of_blocks(64, 4, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif bytes_ == 64:
                    sum_rows_of_blocks(64, 1, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                elif four:
                    sum_rows_of_blocks(32, 4, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                else:
                    sum_rows_of_blocks(32, 1, first[i], first[i + 1], edge, row, values, columns,
                                    tiles, at, out, to, batch, width, biases)  # fmt: skip
                row += 4 if four else 1


@kernel(allocates=False)
def sample_rows(start, stop, columns, first, tiles, n_in, grads, n_out, batch, out):
    """Add dyᵀ x at the alive weights of rows to `out` (n,); both factors in tiles."""
    size = out.itemsize
    origin, start_of_grads = unaligned(tiles), unaligned(grads)
    for begin in range(0, batch, 256 // size):
        at, bytes_ = origin + begin * n_in, tile_bytes((batch - begin) * size)
        for r in range(start, stop):
            row = start_of_grads + begin * n_out + r * (bytes_ // size)
            if bytes_ == 256:
                sample_row(256, first[r], first[r + 1], columns, tiles, at, grads, row, out)
            elif bytes_ == 128:
                sample_row(128, first[r], first[r + 1], columns, tiles, at, grads, row, out)
            elif bytes_ == 64:
                sample_row(64, first[r], first[r + 1], columns, tiles, at, grads, row, out)
            else:
                sample_row(32, first[r], first[r + 1], columns, tiles, at, grads, row, out)


@kernel(allocates=False)
def pack_tiles(start, stop, x, n_in, batch, tiles):
    """Columns of x (batch, in), an address, as rows of the tiles; lanes beyond the batch are 0."""
    x, origin = pointer(x, tiles), unaligned(tiles)
    size = tiles.itemsize
    square = 32 // size
    for begin in range(0, batch, 256 // size):
        rest = batch - begin
        lanes = tile_bytes(rest * size) // size
        c = start
        while c < stop:
            some = min(2 * square, stop - c)  # a cache line of every row
            for lane in range(0, lanes, square):
                filled = max(0, min(square, rest - lane))
                at = (begin + lane) * n_in + c
                to = origin + begin * n_in + c * lanes + lane
                if filled == square and some == 2 * square:
                    transpose(32, x, at, n_in, tiles, to, lanes)
                    transpose(32, x, at + square, n_in, tiles, to + square * lanes, lanes)
                    continue
                for j in range(some):
                    for i in range(filled):
                        tiles[to + j * lanes + i] = x[at + i * n_in + j]
                    for i in range(filled, square):
                        tiles[to + j * lanes + i] = 0
            c += some


@kernel(allocates=False)
def pack_transposed_tiles(start, stop, xt, n_in, batch, tiles):
    """As `pack_tiles` of the address of xt (in, batch)."""
    xt, origin = pointer(xt, tiles), unaligned(tiles)
    size = tiles.itemsize
    for begin in range(0, batch, 256 // size):
        rest = batch - begin
        lanes = tile_bytes(rest * size) // size
        filled = min(rest, lanes)
        for c in range(start, stop):
            at, to = c * batch + begin, origin + begin * n_in + c * lanes
            for i in range(filled):
                tiles[to + i] = xt[at + i]
            for i in range(filled, lanes):
                tiles[to + i] = 0
