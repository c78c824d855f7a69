"""The benchmarks for GPUs run, at sizes that the interpreter can do."""

from pathlib import Path

import pytest

import gonzo.core
from gonzo.core.testing import imports_from
from gonzo.core.triton_kernels import recorded_launches

PACKAGE = Path(__file__).parents[1]
BENCHMARKS = PACKAGE / "benchmarks"


@pytest.fixture(scope="module")
def rows():
    with imports_from(BENCHMARKS), imports_from(BENCHMARKS / "gpu"):
        import bench_gpu_ops as script

        sizes = script.Sizes(
            scan=(2, 5, 3), long=((2, 3, 9),), short=(2, 3, 9), taps=(2,), model=(2, 2, 6, 2, 3),
            attention=(1, 5), sparse=((3, 32, 32, 16),),
        )  # fmt: skip
        yield lambda device: script.rows(sizes, device)


def test_every_row_runs(rows, device):
    with gonzo.core.backend("triton"):
        for row in rows(device):
            arguments = row.setup()
            row.ours(*arguments)
            if row.peer is not None:
                row.peer(*arguments)
            (test,) = row.tests
            assert (PACKAGE / test).exists(), row.what


def test_every_row_follows_its_device(rows):
    """The meta device stands for one that is not here: meeting a tensor of the CPU is an error."""
    for row in rows("meta"):
        arguments = row.setup()
        assert all(a.device.type == "meta" for a in arguments if a is not None), row.what
        with (
            recorded_launches()
        ):  # for rows that call launchers, which would read what is not there
            row.ours(*arguments)
            if row.peer is not None:
                row.peer(*arguments)
