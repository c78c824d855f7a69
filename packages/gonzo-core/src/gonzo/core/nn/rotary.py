"""Rotary positions: queries and keys turned by their places, so that q·k knows their distance.

Each pair of numbers (x_i, x_{i + d/2}) turns by the angle t · 10000^(-2i/d) at step t (Su et al.,
"RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
https://arxiv.org/abs/2104.09864).
"""

import torch
from torch import Tensor

__all__ = ["rotary_frequencies", "rotated"]

_BASE = 10_000.0


def rotary_frequencies(
    d: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the angles (d / 2,) by which pairs turn from one step to the next.

    Args:
        d: Numbers in a query or key, even; 0 for no positions.
        device: Of the result.
        dtype: Of the result, at least float32: angles reach the length of a sequence, and half
            precision would not tell neighbours apart.
    """
    half = d // 2
    return _BASE ** -(torch.arange(half, device=device, dtype=dtype) / max(1, half))


def rotated(x: Tensor, places: Tensor, frequencies: Tensor) -> Tensor:
    """Turn each pair of numbers by the angle of its place.

    Args:
        x: (…, batch, n_head, time, d).
        places: (batch, time) or (1, time), of each step.
        frequencies: (d / 2,).
    """
    angle = places[:, None, :, None] * frequencies  # (B, 1, T, half)
    cos, sin = angle.cos(), angle.sin()
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1).to(x.dtype)
