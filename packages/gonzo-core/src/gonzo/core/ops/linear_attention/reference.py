"""All weights of a sequence as one matrix, as the papers write it; O(time²) memory.

With w = [v, 1] (or v, not normalized) and G the gradient of the sums n = A w + φ(q) S:

    A = φ(q) φ(k)ᵀ,  s ≤ t          dφ(q) = (G wᵀ) φ(k) + G Sᵀ      dw = Aᵀ G + φ(k) R
    S' = S + φ(k)ᵀ w                dφ(k) = (G wᵀ)ᵀ φ(q) + w Rᵀ     dS = R + φ(q)ᵀ G

where R is the gradient of the state S' and G wᵀ is masked as A is. The column of ones makes the
sum d of the weights: y = n / (d + ε), so dn = dy / (d + ε) and dd = -(dy · y) / (d + ε).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .features import features, features_backward


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    lengths: Tensor | None,
    feature_map: str,
    scale: float,
    causal: bool,
    normalize: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `gonzo.core.ops.linear_attention`; also the divisors (batch, n_head, time)."""
    fq, fk, w = _prepared(q, k, v, state, lengths, feature_map, scale, normalize)
    final = state + fk.mT @ w
    sums = _weights(fq, fk, causal) @ w + fq @ state
    y, divisor = _normalized(sums, normalize, eps)
    if lengths is not None:
        y = y * _valid(lengths, y)
    return y.to(v.dtype), divisor, final


def backward(
    grad_y: Tensor,
    grad_state: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    y: Tensor,
    divisor: Tensor,
    lengths: Tensor | None,
    feature_map: str,
    scale: float,
    causal: bool,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and state."""
    fq, fk, w = _prepared(q, k, v, state, lengths, feature_map, scale, normalize)
    g = _sums_gradient(grad_y.to(state.dtype), y.to(state.dtype), divisor, normalize)
    if lengths is not None:
        g = g * _valid(lengths, g)
    a, da = _weights(fq, fk, causal), g @ w.mT
    da = da.tril() if causal else da
    d_fq = da @ fk + g @ state.mT
    if not causal:
        d_fq = g @ (state + fk.mT @ w).mT
    d_fk = da.mT @ fq + w @ grad_state.mT
    dw = a.mT @ g + fk @ grad_state
    if lengths is not None:  # a padded step has no features
        d_fk = d_fk * _valid(lengths, d_fk)
    dq = features_backward(d_fq, q.to(state.dtype), feature_map, scale)
    dk = features_backward(d_fk, k.to(state.dtype), feature_map, scale)
    dv = dw[..., : v.shape[-1]].contiguous()
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), grad_state + fq.mT @ g


def _prepared(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    lengths: Tensor | None,
    feature_map: str,
    scale: float,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    fq, fk = (features(x.to(state.dtype), feature_map, scale) for x in (q, k))
    if lengths is not None:
        fk = fk * _valid(lengths, fk)
    return fq, fk, _with_ones(v.to(state.dtype), normalize)


def _weights(fq: Tensor, fk: Tensor, causal: bool) -> Tensor:
    weights = fq @ fk.mT
    return weights.tril() if causal else weights


def _valid(lengths: Tensor, x: Tensor) -> Tensor:
    """Which steps of x (batch, n_head, time, …) count, (batch, 1, time, 1)."""
    step = torch.arange(x.shape[2], device=x.device)
    return (step < lengths[:, None])[:, None, :, None].to(x.dtype)


def _with_ones(v: Tensor, normalize: bool) -> Tensor:
    """Return v with a column of ones behind it where the sum of weights is wanted."""
    return pad(v, (0, 1), value=1.0) if normalize else v


def _normalized(sums: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    """Return y and its divisors (…, time), which are empty where nothing is divided."""
    if not normalize:
        return sums, sums.new_empty(0)
    divisor = sums[..., -1:] + eps
    return sums[..., :-1] / divisor, divisor.squeeze(-1)


def _sums_gradient(grad_y: Tensor, y: Tensor, divisor: Tensor, normalize: bool) -> Tensor:
    """Return the gradient of the sums, with that of the weights' sum as its last column."""
    if not normalize:
        return grad_y
    last = -(grad_y * y).sum(-1, keepdim=True)
    return torch.cat([grad_y, last], -1) / divisor.unsqueeze(-1)
