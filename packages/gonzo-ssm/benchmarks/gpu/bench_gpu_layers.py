"""Layers on a GPU, beside the originals' algorithms in plain torch, and S4 beside LSSL."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from gonzo.core.bench import TimeRow, main, on_device

sys.path.append(str(Path(__file__).parents[1]))
import bench_family as family
import bench_ssm as layers

TESTS = ["triton_tests/test_layers.py"]


@dataclass(frozen=True)
class Sizes:
    """What to measure at; the test of this script takes small ones.

    The naive Cauchy sums of S4 need some 10 GB for the kernel of 256 features and 4096 steps.
    """

    batch: int = 16
    features: int = 256
    length: int = 4096


def rows(sizes=Sizes(), device="cuda"):
    """All rows, with what they need on `device`."""
    batch, h, length = sizes.batch, sizes.features, sizes.length
    size = f"H{h} N{layers.N} L{length}"
    found = []
    for name in layers.OURS:

        def kernels(name=name):
            return layers.kernels(name, h, length)

        def blocks(name=name):
            return layers.blocks(name, batch, h, length)

        found += [
            row(f"{name} kernel {size} forward", kernels, layers.kernel, layers.peer_kernel),
            row(f"{name} kernel {size} forward+backward", kernels, layers.kernel_and_back,
                layers.peer_kernel_and_back),
            row(f"{name} block B{batch} {size} forward+backward", blocks, layers.block_and_back,
                layers.peer_block_and_back),
        ]  # fmt: skip
    for many in (1, batch):
        found.append(
            row(f"S4 layer step H{h} N{layers.N} B{many}", lambda many=many: layers.steps(many, h),
                lambda ours, state, step, block, dense, x: ours.step(x, state),
                lambda ours, state, step, block, dense, x: block(x, dense))
        )  # fmt: skip
    found += [
        row(f"H3 layer B{batch} H{h} N64 L{length} head_dim 1 forward+backward",
            lambda: family.h3(1, batch, h, length), family.both_ways, family.peer_both_ways),
        row(f"S4 against LSSL, B1 H{h} N64 L{length} forward+backward",
            lambda: family.against_lssl(h, 64, length), family.both_ways, family.peer_both_ways,
            "gonzo.ssm.LSSL"),
    ]  # fmt: skip
    return [on_device(row, device) for row in found]


def row(what, setup, ours, peer, peer_name=layers.NAIVE):
    return TimeRow(what=what, setup=setup, ours=ours, peer=peer, peer_name=peer_name, tests=TESTS)


if __name__ == "__main__":
    layers.check_peers()
    family.check_peers()
    torch.backends.cudnn.allow_tf32 = False  # the linear map beside ours is to be float32 too
    raise SystemExit(main(rows(), package="gonzo-ssm", script=__file__, device="cuda"))
