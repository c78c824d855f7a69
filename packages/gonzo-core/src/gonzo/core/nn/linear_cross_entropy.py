"""Cross entropy of a linear map, without all of its logits in memory at once.

The logits of a batch are often its largest tensor, (batch, time, vocab). Here they exist a piece at
a time, and the backward pass computes each piece once more.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["IGNORED", "linear_cross_entropy"]

IGNORED = -100
"""A target that counts for nothing."""

_LOGITS_AT_ONCE = 1 << 24


# torch 2.13 has a function of this name, whose way to save memory stops torch.compile.
def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of -log softmax(W x)[target] over the targets that are not ``IGNORED``.

    Args:
        x: (..., d_model).
        weight: W, (vocab, d_model).
        targets: (...) int64.

    Returns:
        A number, in float32 at least; 0 where every target is ignored.
    """
    rows = max(1, _LOGITS_AT_ONCE // weight.shape[0])
    pieces = list(zip(x.flatten(0, -2).split(rows), targets.flatten().split(rows), strict=True))
    if len(pieces) > 1 and torch.is_grad_enabled():
        sums = [checkpoint(_sum, piece, weight, t, use_reentrant=False) for piece, t in pieces]
    else:
        sums = [_sum(piece, weight, t) for piece, t in pieces]
    return torch.stack(sums).sum() / (targets != IGNORED).sum().clamp(min=1)


def _sum(x: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(x, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)
