"""Masks as bits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.pruning import bit_packing
from gonzo.pruning.bit_packing import pack_bits, unpack_bits


def test_the_first_element_is_the_lowest_bit():
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 0] = mask[0, 3] = mask[1, 4] = True  # flat 0, 3 and 9
    assert pack_bits(mask).tolist() == [0b00001001, 0b00000010]


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), max_size=3), st.integers(0, 2**32 - 1))
def test_round_trip(shape, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8
    assert packed.shape == (math.ceil(mask.numel() / 8),)
    back = unpack_bits(packed, shape)
    assert back.dtype == torch.bool
    assert torch.equal(back, mask)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_torch_alone_packs_the_same(count):
    mask = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5
    packed = pack_bits(mask)
    assert torch.equal(bit_packing._pack(mask), packed)
    assert torch.equal(bit_packing._unpack(packed)[:count], mask)
    assert packed.tolist() == np.packbits(mask.numpy(), bitorder="little").tolist()


def test_a_transposed_mask_is_packed_in_its_own_order():
    mask = torch.rand(5, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    assert not mask.T.is_contiguous()
    assert torch.equal(unpack_bits(pack_bits(mask.T), (9, 5)), mask.T)


def test_what_is_no_mask():
    with pytest.raises(TypeError, match=r"expected a bool mask, got torch.float32"):
        pack_bits(torch.ones(3))


def test_what_are_no_bits():
    with pytest.raises(TypeError, match=r"as uint8, got torch.int64"):
        unpack_bits(torch.ones(1, dtype=torch.int64), (3,))
    with pytest.raises(ValueError, match=r"expected 2 bytes for a mask of shape \(3, 3\), got"):
        unpack_bits(torch.ones(1, dtype=torch.uint8), (3, 3))
    with pytest.raises(ValueError, match="bits are set past the end"):
        unpack_bits(torch.tensor([0b1000], dtype=torch.uint8), (3,))
    with pytest.raises(ValueError, match="expected a shape of sizes"):
        unpack_bits(torch.zeros(1, dtype=torch.uint8), (-2, -4))
