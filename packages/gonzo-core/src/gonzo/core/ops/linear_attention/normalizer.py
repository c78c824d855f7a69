"""The division by the sum of weights: that sum is one more column of the values, a column of ones.

y = n / d,  d = Σ weights + ε       dn = dy / d,  dd = -(dy · y) / d
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def with_ones(v: Tensor, normalize: bool) -> Tensor:
    """Return v with a column of ones behind it where the sum of weights is wanted."""
    return pad(v, (0, 1), value=1.0) if normalize else v


def normalized(sums: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    """Return y and its divisors (…, time), which are empty where nothing is divided."""
    if not normalize:
        return sums, sums.new_empty(0)
    divisor = sums[..., -1:] + eps
    return sums[..., :-1] / divisor, divisor.squeeze(-1)


def sums_gradient(grad_y: Tensor, y: Tensor, divisor: Tensor, normalize: bool) -> Tensor:
    """Return the gradient of the sums, with that of the weights' sum as its last column."""
    if not normalize:
        return grad_y
    last = -(grad_y * y).sum(-1, keepdim=True)
    return torch.cat([grad_y, last], -1) / divisor.unsqueeze(-1)
