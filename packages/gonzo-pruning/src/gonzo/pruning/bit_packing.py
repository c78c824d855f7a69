"""Boolean masks as bits: eight weights a byte, in flat order, the first in the lowest bit."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(mask: Tensor) -> Tensor:
    """Return the bits of ``mask``: bit ``i % 8`` of byte ``i // 8`` is its flat element ``i``.

    It is ``numpy.packbits(mask.flatten(), bitorder="little")``; bits past the end are 0.

    Args:
        mask: bool, any shape, any device.

    Returns:
        uint8 (ceil(n / 8),), on the same device.

    Raises:
        TypeError: ``mask`` is not bool.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"expected a bool mask, got {mask.dtype}; write weight != 0")
    flat = mask.detach().reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    return _pack(flat)


def unpack_bits(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the mask that `pack_bits` packed.

    Args:
        packed: uint8 (ceil(n / 8),).
        shape: Of the mask, n elements.

    Returns:
        bool of that shape, on the same device.

    Raises:
        TypeError: ``packed`` is not uint8.
        ValueError: It has another number of bytes, a bit is set past the last element, or the
            shape is none.
    """
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"expected a shape of sizes, each 0 or more, got {tuple(shape)}")
    count = math.prod(shape)
    if packed.dtype != torch.uint8:
        raise TypeError(f"expected packed bits as uint8, got {packed.dtype}")
    if packed.shape != (-(-count // 8),):
        raise ValueError(
            f"expected {-(-count // 8)} bytes for a mask of shape {tuple(shape)}, "
            f"got shape {tuple(packed.shape)}"
        )
    if count % 8 and int(packed[-1]) >> (count % 8):
        raise ValueError(f"bits are set past the end of a mask of shape {tuple(shape)}")
    if packed.device.type == "cpu":
        bits = np.unpackbits(packed.contiguous().numpy(), count=count, bitorder="little")
        return torch.from_numpy(bits.view(np.bool)).reshape(tuple(shape))
    return _unpack(packed)[:count].reshape(tuple(shape))


def _pack(flat: Tensor) -> Tensor:
    """The same where NumPy does not reach: on an accelerator."""
    padded = torch.zeros(-(-flat.numel() // 8) * 8, dtype=torch.uint8, device=flat.device)
    padded[: flat.numel()] = flat
    # Each of the eight bits is its own power of two, so a byte's sum never exceeds 255.
    return (padded.view(-1, 8) << _places(flat.device)).sum(1, dtype=torch.uint8)


def _unpack(packed: Tensor) -> Tensor:
    """All bits of ``packed``, those past the end among them."""
    return ((packed.unsqueeze(1) >> _places(packed.device)) & 1).to(torch.bool).reshape(-1)


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
