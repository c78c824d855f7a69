"""The fused feature maps, written out: what a state's rows are, and the map's own gradient.

φ(x) of the polynomial maps, with c = scale and i < j:

    taylor       1,  √c x_i,  c/√2 x_i²  and  c x_i x_j
    quadratic                 c    x_i²  and  √2 c x_i x_j
"""

from __future__ import annotations

import torch
from torch import Tensor


def n_feature(feature_map: str, d_key: int) -> int:
    """Return how many features `feature_map` makes of `d_key` numbers, the rows of a state."""
    pairs = d_key * (d_key + 1) // 2
    return {
        "identity": d_key,
        "elu": d_key,
        "taylor": 1 + d_key + pairs,
        "quadratic": pairs,
        "softmax_pair": 2 * d_key,
    }[feature_map]


def features(x: Tensor, feature_map: str, scale: float) -> Tensor:
    """φ(x) (…, n_feature) of x (…, d_key)."""
    if feature_map == "identity":
        return x
    if feature_map == "elu":
        return x.clamp(max=0).exp() + x.clamp(min=0)
    if feature_map == "softmax_pair":
        return torch.cat([x.softmax(-1), (-x).softmax(-1)], -1)
    i, j = _pairs(x)
    products = x[..., i] * x[..., j] * _weights(x, feature_map, scale)
    if feature_map == "quadratic":
        return products
    return torch.cat([torch.ones_like(x[..., :1]), scale**0.5 * x, products], -1)


def features_backward(grad: Tensor, x: Tensor, feature_map: str, scale: float) -> Tensor:
    """The gradient of x (…, d_key) from that of φ(x) (…, n_feature)."""
    if feature_map == "identity":
        return grad
    if feature_map in ("elu", "softmax_pair"):
        return activation_backward(grad, features(x, feature_map, scale), feature_map)
    i, j = _pairs(x)
    d = x.shape[-1]
    products = grad[..., -len(i) :] * _weights(x, feature_map, scale)
    matrix = x.new_zeros(*x.shape, d)  # of the products, upper triangle
    matrix[..., i, j] = products
    dx = ((matrix + matrix.mT) @ x.unsqueeze(-1)).squeeze(-1)
    return dx if feature_map == "quadratic" else dx + scale**0.5 * grad[..., 1 : 1 + d]


def activation_backward(grad: Tensor, phi: Tensor, feature_map: str) -> Tensor:
    """The gradient of x from that of φ(x) and φ(x) itself, for elu + 1 and the softmax pair."""
    if feature_map == "elu":  # below 0 the exponential is its own slope, above it is 1
        return grad * phi.clamp(max=1)
    plus, minus = phi.chunk(2, -1)
    d_plus, d_minus = grad.chunk(2, -1)
    return _softmax_backward(d_plus, plus) - _softmax_backward(d_minus, minus)


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Indices i ≤ j, row after row."""
    d = x.shape[-1]
    i, j = torch.triu_indices(d, d, device=x.device).unbind(0)
    return i, j


def _weights(x: Tensor, feature_map: str, scale: float) -> Tensor:
    i, j = _pairs(x)
    square, mixed = (0.5**0.5, 1.0) if feature_map == "taylor" else (1.0, 2**0.5)
    return scale * (mixed + (square - mixed) * (i == j).to(x.dtype))


def _softmax_backward(grad: Tensor, y: Tensor) -> Tensor:
    return y * (grad - (grad * y).sum(-1, keepdim=True))
