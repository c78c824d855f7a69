"""Few taps are summed directly, many through the Fourier transform; both in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor

from . import direct, fourier

_DIRECT_TAPS = 32  # up to about here sums beat the transform: see the README


def forward(u: Tensor, taps: Tensor, ahead: int) -> Tensor:
    """See `gonzo.core.ops.long_conv.reference`."""
    way = direct if taps.shape[1] <= _DIRECT_TAPS else fourier
    return way.forward(_wide(u), _wide(taps), ahead).to(u.dtype)


def backward(grad: Tensor, u: Tensor, taps: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.long_conv.reference`."""
    way = direct if taps.shape[1] <= _DIRECT_TAPS else fourier
    du, dtaps = way.backward(_wide(grad), _wide(u), _wide(taps), ahead)
    return du.to(u.dtype), dtaps.to(taps.dtype)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
