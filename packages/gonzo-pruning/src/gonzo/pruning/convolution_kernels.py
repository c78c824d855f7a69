"""Loops of a convolution with few weights: each adds its multiple of the image, shifted.

On an image with its border of zeros, read as one long line, the pixel under weight (c, i, j) of all
output positions is that line from c · area + i · width + j on. So a row of outputs is a sum of
shifted pieces, contiguous ones, and nothing is unfolded. What the pieces say about positions that
straddle the border is dropped. Multiplications and additions may be fused ("contract"), which
rounds once instead of twice.
"""

from __future__ import annotations

import numpy as np

from gonzo.core.numba_kernels import kernel

_TILE = 1536  # positions at a time: sums and the pieces of four weights stay in the nearest cache


@kernel(fastmath={"contract"})
def convolve_rows(start, stop, first, offsets, values, bias, x, area, width, y, height, n_column):
    """Channels of outputs, counted through all images.

    Args:
        start: the first channel.
        stop: the channel after the last.
        first: (out + 1,) where the weights of each channel begin.
        offsets: (n,) int64, of the weights in an image.
        values: (n,)
        bias: (out,)
        x: images with their borders, flat.
        area: numbers of x in an image.
        width: of an image with its border.
        y: outputs, flat.
        height: of an output.
        n_column: its width.
    """
    n_out = bias.size
    at_once = max(1, _TILE // width)
    sums = np.empty(at_once * width, x.dtype)
    for r in range(start, stop):
        image, channel = r // n_out, r % n_out
        last = first[channel + 1]
        for top in range(0, height, at_once):
            lines = min(at_once, height - top)
            # Without a sign, so that no index is checked for being counted from the end.
            size = np.uint64((lines - 1) * width + n_column)
            begin = np.uint64(image * area + top * width)
            for i in range(size):
                sums[i] = bias[channel]
            k = first[channel]
            while k + 4 <= last:
                a, b = begin + np.uint64(offsets[k]), begin + np.uint64(offsets[k + 1])
                c, d = begin + np.uint64(offsets[k + 2]), begin + np.uint64(offsets[k + 3])
                va, vb, vc, vd = values[k], values[k + 1], values[k + 2], values[k + 3]
                for i in range(size):
                    sums[i] += va * x[a + i] + vb * x[b + i] + vc * x[c + i] + vd * x[d + i]
                k += 4
            while k < last:
                a, va = begin + np.uint64(offsets[k]), values[k]
                for i in range(size):
                    sums[i] += va * x[a + i]
                k += 1
            for line in range(lines):
                at, to = np.uint64(line * width), np.uint64((r * height + top + line) * n_column)
                for j in range(np.uint64(n_column)):
                    y[to + j] = sums[at + j]
