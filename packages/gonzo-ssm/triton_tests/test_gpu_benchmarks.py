"""The benchmarks for GPUs run, at sizes that the interpreter can do."""

from pathlib import Path

import pytest
import torch

import gonzo.core
from gonzo.core.testing import imports_from

PACKAGE = Path(__file__).parents[1]
BENCHMARKS = PACKAGE / "benchmarks"


@pytest.fixture(scope="module")
def rows():
    with imports_from(BENCHMARKS), imports_from(BENCHMARKS / "gpu"):
        import bench_gpu_layers as script

        yield lambda device: script.rows(script.Sizes(batch=2, features=3, length=9), device)


def tensors(value):
    """All tensors in arguments: states are tuples of them, layers have parameters and buffers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()
    else:
        for part in value:
            yield from tensors(part)


def test_every_row_runs(rows, device):
    with gonzo.core.backend("triton"):
        for row in rows(device):
            arguments = row.setup()
            row.ours(*arguments)
            row.peer(*arguments)
            (test,) = row.tests
            assert (PACKAGE / test).exists(), row.what


def test_every_row_follows_its_device(rows):
    """The meta device stands for one that is not here: meeting a tensor of the CPU is an error."""
    for row in rows("meta"):
        arguments = row.setup()
        assert {t.device.type for t in tensors(arguments)} == {"meta"}, row.what
        row.ours(*arguments)
        row.peer(*arguments)
