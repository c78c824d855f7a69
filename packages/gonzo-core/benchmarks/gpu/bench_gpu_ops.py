"""The ops on a GPU: the rows of the scripts for the CPU at sizes for a GPU, and further peers.

A row whose time memory decides names the bytes that it moves at least, and how long an H100 takes
to copy as many, at 3.0 TB/s.
"""

import importlib.util
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gonzo.core.bench import TimeRow, main, on_device
from gonzo.core.ops.linear_scan import linear_scan

sys.path.append(str(Path(__file__).parents[1]))
import bench_linear_attention as attention
import bench_linear_scan as scans
import bench_long_conv as convs
import bench_sparse_linear as sparse
import bench_ssm_ops as models


@dataclass(frozen=True)
class Sizes:
    """What to measure at; the test of this script takes small ones.

    Attributes:
        scan: (batch, time, d).
        long: (batch, d, time) of convolutions with as many taps as steps.
        short: (batch, d, time) of those with few.
        taps: how many.
        model: heads, stored pairs, length, and batch and time of the recurrence.
        attention: heads of all sequences, and time.
        sparse: batch, outputs, inputs and edge of the blocks of sparse layers.
    """

    scan: tuple[int, int, int] = (8, 4096, 1024)
    long: tuple[tuple[int, int, int], ...] = ((64, 128, 784), (16, 512, 4096), (4, 512, 16384))
    short: tuple[int, int, int] = (16, 512, 4096)
    taps: tuple[int, ...] = (4, 16, 64, 128, 256)
    model: tuple[int, int, int, int, int] = (256, 32, 4096, 16, 1024)
    attention: tuple[int, int] = (128, 8192)
    sparse: tuple[tuple[int, int, int, int], ...] = ((2048, 4096, 4096, 32), (2048, 4096, 4096, 64))


def named(row, numbers, dtype=torch.float32):
    """The row, named with the bytes of the numbers that it moves and the time to copy them."""
    size = numbers * dtype.itemsize
    kind = str(dtype).removeprefix("torch.")
    return replace(row, what=f"{row.what}, {kind}, {size / 1e6:.0f} MB: {size / 3e6:.0f} µs")


def scan_rows(size):
    numbers = math.prod(size)
    for dtype in (torch.float32, torch.bfloat16, torch.complex64):
        for row in scans.rows(size, dtype):
            shared, back = "decay" in row.what, "backward" in row.what
            # x in, y out; back, y and the gradient in, that of x out. A decay that is not shared is
            # read both times, and its gradient is written.
            passes = 2 + 3 * back + (0 if shared else 1 + 2 * back)
            yield named(row, passes * numbers, dtype)
    yield hgrn_row(size)


def hgrn_row(size):
    """The same recurrence in another library, which takes the decay's logarithm."""
    peer = None
    if importlib.util.find_spec("fla"):
        from fla.ops.hgrn import fused_recurrent_hgrn

        def peer(a, log_a, x):
            return fused_recurrent_hgrn(x, log_a)[0]

    def setup():
        a, x = scans.inputs(size)
        return a, a.log(), x

    return TimeRow(
        what=f"linear_scan forward {size}, beside flash-linear-attention",
        ours=lambda a, log_a, x: linear_scan(a, x),
        peer=peer,
        peer_name="fla.ops.hgrn.fused_recurrent_hgrn" if peer else "",
        no_peer="" if peer else "flash-linear-attention is not installed",
        setup=setup,
        tests=["tests/test_linear_scan.py"],
    )


def conv_rows(sizes):
    for size in sizes.long:
        for row in convs.rows(size, size[2], convs.fft):
            yield named(row, transformed(row, size))
    for taps in sizes.taps:
        for row in convs.rows(sizes.short, taps, convs.depthwise):
            numbers = math.prod(sizes.short) * (6 if "backward" in row.what else 2)
            yield named(row, numbers if taps <= 128 else transformed(row, sizes.short))
        yield switch_row(sizes.short, taps)


def transformed(row, size):
    """Numbers moved when cuFFT does it, its buffers included: see the op's README."""
    passes = 43 + 24 / size[0] if "backward" in row.what else 17 + 9 / size[0]
    return int(passes * math.prod(size))


def switch_row(size, taps):
    """Where sums and transforms meet, which decides `_DIRECT_TAPS`."""

    def direct(u, k, grad):
        from gonzo.core.ops.long_conv import triton_direct

        triton_direct.forward(u, k, 0)
        triton_direct.backward(grad, u, k, 0)

    def transforms(u, k, grad):
        from gonzo.core.ops.long_conv import triton_fourier

        triton_fourier.forward(u, k, 0)
        triton_fourier.backward(grad, u, k, 0)

    return TimeRow(
        what=f"long_conv by sums, forward+backward {size}, {taps} taps",
        ours=direct,
        peer=transforms,
        peer_name="long_conv by transforms",
        setup=lambda: (*convs.inputs(size, taps), torch.randn(size)),
        tests=["tests/test_long_conv.py"],
    )


def attention_rows(heads, time):
    for dtype in (torch.bfloat16, torch.float32):
        for feature_map, d_key in attention.D_KEY.items():
            for row in attention.rows(feature_map, heads, time, dtype):
                # q, k and v in, y out; back, y and its gradient too, and three gradients out.
                numbers = heads * time * (2 * d_key + 2 * 64)
                if "backward" in row.what:
                    numbers += heads * time * (4 * d_key + 4 * 64)
                yield named(row, numbers, dtype)


def rows(sizes=Sizes(), device="cuda"):
    """All rows, with what they need on `device` and the tests of the kernels."""
    found = [*scan_rows(sizes.scan), *conv_rows(sizes), *models.rows(*sizes.model)]
    found += attention_rows(*sizes.attention)
    for size in sizes.sparse:
        for dtype in (torch.bfloat16, torch.float32):
            found += sparse.block_rows(size, dtype)
    return [
        on_device(
            row,
            device,
            tests=[test.replace("tests/", "triton_tests/", 1) for test in row.tests],
            bar=None,
        )
        for row in found
    ]


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = False  # the convolutions beside ours are to be float32 too
    raise SystemExit(main(rows(), package="gonzo-core", script=__file__, device="cuda"))
