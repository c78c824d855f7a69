"""Launching: configurations in the interpreter, and launches that are only noted."""

import pytest
import torch
import triton
import triton.language as tl

from gonzo.core.triton_kernels import (
    interpreted_configuration,
    launch,
    recorded_launches,
    tuned,
)


@tuned([triton.Config({"BLOCK": 16}, num_warps=1), triton.Config({"BLOCK": 32})], key=["n"])
@triton.jit
def _fill(out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.full([BLOCK], BLOCK, tl.float32), i < n)


def filled(size, device):
    out = torch.full((size + 1,), -1.0, device=device)
    launch(_fill, lambda c: (triton.cdiv(size, c["BLOCK"]),), out[:size], size)
    assert out[size] == -1
    return set(out[:size].tolist())


@pytest.mark.parametrize(("index", "block"), [(0, 16), (1, 32), (2, 16)])
def test_the_interpreter_runs_the_configuration_asked_for(index, block, device):
    if device.type != "cpu":
        pytest.skip("a GPU measures the configurations and chooses")
    with interpreted_configuration(index):
        assert filled(50, device) == {block}
    assert filled(50, device) == {16}


def test_a_recorded_launch_runs_nothing_and_names_everything(device):
    out = torch.zeros(50, device=device)
    with recorded_launches() as launches:
        launch(_fill, (4,), out, 50)
    assert not out.any()
    assert [noted.arguments["BLOCK"] for noted in launches] == [16, 32]
    assert [noted.options["num_warps"] for noted in launches] == [1, 4]
    assert all(noted.arguments["out"] is out for noted in launches)
    with recorded_launches(), pytest.raises(TypeError, match="launched without n"):
        launch(_fill, (4,), out)
