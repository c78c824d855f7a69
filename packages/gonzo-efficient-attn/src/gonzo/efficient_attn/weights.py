"""Rows of attention weights, a block of queries at a time: softmax's, linear, and of both.

    softmax   p_ij = e^(s_ij) / Σ_{r ≤ i} e^(s_ir)
    linear    a_ij = φ(q_i)·φ(k_j) / (Σ_{r ≤ i} φ(q_i)·φ(k_r) + ε)

with j ≤ i; for both in one row see `hybrid`. Layers never make these: it is what distillation
compares and what analysis looks at.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hybrid_rows", "linear_rows", "softmax_rows"]


def softmax_rows(q: Tensor, k: Tensor, scale: float, window: int | None = None) -> Tensor:
    """Return softmax's weights (…, block, seen) of the last `block` of `seen` steps.

    Args:
        q: (…, block, d), of the last steps.
        k: (…, seen, d), of all steps up to the last query.
        scale: of q·k.
        window: steps that a query sees, itself included; by default all before it.
    """
    distance = _distance(q, k)
    visible = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    return (scale * (q @ k.mT)).masked_fill(~visible, -torch.inf).softmax(-1)


def linear_rows(fq: Tensor, fk: Tensor, eps: float) -> Tensor:
    """Return linear attention's weights, likewise, of features fq and fk."""
    weights = (fq @ fk.mT).masked_fill(_distance(fq, fk) < 0, 0)
    return weights / (weights.sum(-1, keepdim=True) + eps)


def hybrid_rows(
    q: Tensor, k: Tensor, fq: Tensor, fk: Tensor, balance: Tensor, window: int
) -> Tensor:
    """Return the weights of `HybridAttention`, likewise.

    Args:
        q: (…, n_head, block, d), of the last steps.
        k: (…, n_head, seen, d).
        fq: (…, n_head, block, n_feature).
        fk: (…, n_head, seen, n_feature).
        balance: (n_head,), of the layer.
        window: of the layer.
    """
    distance = _distance(q, k)
    near = (distance >= 0) & (distance < window)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~near, -torch.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    behind = (fq @ fk.mT).masked_fill(distance < window, 0)
    weights = exponentials + balance.exp()[:, None, None] * behind
    return weights / weights.sum(-1, keepdim=True)


def _distance(q: Tensor, k: Tensor) -> Tensor:
    """How many steps a key lies before a query, (block, seen)."""
    block, seen = q.shape[-2], k.shape[-2]
    column = torch.arange(seen, device=q.device)
    return column[seen - block :, None] - column
