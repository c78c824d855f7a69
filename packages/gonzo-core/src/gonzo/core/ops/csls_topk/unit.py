"""Vectors of length one, without overflow and without a second copy on the way."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 4096


def unit_rows(vectors: Tensor) -> Tensor:
    """Return each row divided by its length, contiguous; a row of zeros stays."""
    out = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    limit = 126 if vectors.dtype == torch.float32 else 1022
    for start in range(0, len(vectors), _CHUNK):
        part = vectors[start : start + _CHUNK]
        low, high = part.aminmax(dim=1, keepdim=True)
        # A power of two changes no digit, and keeps the squares within the range of the numbers.
        exponent = torch.frexp(torch.maximum(high, -low)).exponent.clamp(-limit, limit)
        scaled = torch.mul(part, torch.exp2(-exponent.to(part.dtype)), out=out[start:][:_CHUNK])
        norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
        scaled /= torch.where(norm > 0, norm, 1.0)
    return out
