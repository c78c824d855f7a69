"""The ahead-of-time compiler catches a kernel that a GPU would suffer from."""

import pytest
import torch
import triton
import triton.language as tl

import compile_kernels
from gonzo.core.triton_kernels import launch, recorded_launches


@triton.jit
def _sum_of_outer_products(x, out, KEPT: tl.constexpr, SIZE: tl.constexpr):
    """Keeps KEPT tiles of SIZE × SIZE numbers alive at once."""
    i = tl.arange(0, SIZE)
    total = tl.full((SIZE, SIZE), 0, tl.float32)
    for k in tl.static_range(KEPT):
        row = tl.load(x + k * SIZE + i)
        total += row[:, None] * tl.sum(total * row[None, :], 1)[None, :]
    tl.store(out + i[:, None] * SIZE + i[None, :], total)


@triton.jit
def _product(x, y, out, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    at = i[:, None] * SIZE + i[None, :]
    tl.store(out + at, tl.dot(tl.load(x + at), tl.load(y + at)))


def described(kernel, *tensors, target="sm_90", **constants):
    with recorded_launches() as launches:
        launch(kernel, (1,), *tensors, **constants)
    (target,) = [t for t in compile_kernels.TARGETS if t.name == target]
    variant = compile_kernels.Variant("test", launches[0], target)
    return variant, compile_kernels.compiled(variant)


def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_a_spilling_kernel_is_caught(target):
    inputs = (empty(8, 128), empty(128, 128))
    variant, result = described(
        _sum_of_outer_products, *inputs, KEPT=2, SIZE=128, num_warps=1, target=target
    )
    assert result.spills > 0
    assert any("spilled" in problem for problem in result.problems(variant.target))
    variant, result = described(
        _sum_of_outer_products, *inputs, KEPT=2, SIZE=32, num_warps=4, target=target
    )
    assert not result.problems(variant.target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_16_bit_product_is_due_matrix_instructions(dtype):
    inputs = (empty(64, 64, dtype=dtype), empty(64, 64, dtype=dtype), empty(64, 64))
    for target in ("sm_80", "sm_90", "sm_100", "gfx942"):
        variant, result = described(_product, *inputs, SIZE=64, target=target)
        assert result.due
        assert result.matrix > 0
        assert not result.problems(variant.target)


def test_too_much_shared_memory_is_caught():
    found = compile_kernels.Compiled(registers=32, spills=0, shared=200 << 10, matrix=0, due=True)
    sm_80, sm_90 = compile_kernels.TARGETS[:2]
    assert len(found.problems(sm_80)) == 2
    assert found.problems(sm_90) == ["a 16-bit matrix product without matrix instructions"]
