"""Complex arithmetic on real pairs (..., 2), for layers: torch.compile has no complex code.

Ops convert to complex inside, where nothing is traced; what stands between parameters and ops uses
these.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair(re: Tensor, im: Tensor) -> Tensor:
    """(...) real and imaginary parts to (..., 2)."""
    return torch.stack(torch.broadcast_tensors(re, im), -1)


def conj(x: Tensor) -> Tensor:
    """Complex conjugate."""
    re, im = x.unbind(-1)
    return pair(re, -im)


def add_real(x: Tensor, number: float) -> Tensor:
    """Sum of x and a real number."""
    re, im = x.unbind(-1)
    return pair(re + number, im)


def mul(x: Tensor, y: Tensor) -> Tensor:
    """Product."""
    (a, b), (c, d) = x.unbind(-1), y.unbind(-1)
    return pair(a * c - b * d, a * d + b * c)


def reciprocal(x: Tensor) -> Tensor:
    """1/x."""
    return conj(x) / x.square().sum(-1, keepdim=True)


def exp(x: Tensor) -> Tensor:
    """e^x."""
    re, im = x.unbind(-1)
    size = re.exp()
    return pair(size * im.cos(), size * im.sin())


def expm1(x: Tensor) -> Tensor:
    """e^x - 1, accurate near 0."""
    re, im = x.unbind(-1)
    return pair(torch.expm1(re) * im.cos() - 2 * (im / 2).sin().square(), re.exp() * im.sin())


def real(x: Tensor) -> Tensor:
    """Real part, (...)."""
    return x[..., 0]
