"""What attention weights look like: how spiky they are, and whether they rise with q·k.

    entropy  H_i = -Σ_j a_ij log a_ij          monotonicity  ρ_i = Spearman's correlation, over j,
                                                             of q_i·k_j and a_ij

for each query i over the keys j ≤ i that it sees. Softmax's weights are spiky (of low entropy) and
rise with q·k (ρ = 1), and the maps of earlier linear attentions do neither.

Zhang, Bhatia, Kumbong, Ré: The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax
Mimicry (2024), https://arxiv.org/abs/2402.04347, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.nn import CausalAttention

from .hybrid import HybridAttention
from .projections import Attention, queries_and_keys
from .weights import hybrid_rows, linear_rows, softmax_rows

__all__ = ["attention_entropy", "attention_scores", "attention_weights", "spearman"]


@torch.no_grad()
def attention_scores(layer: Attention, x: Tensor) -> Tensor:
    """Return q·k of a layer, (batch, n_head, time, time), future keys included.

    All of it is in memory: for sequences of some hundred steps.

    Args:
        layer: `CausalAttention`, `LinearAttention` or `HybridAttention`.
        x: (batch, time, d_model), the layer's input from the beginning.
    """
    q, k = queries_and_keys(layer, x)
    return q @ k.mT


@torch.no_grad()
def attention_weights(layer: Attention, x: Tensor) -> Tensor:
    """Return a layer's weights (batch, n_head, time, time), zero above the diagonal.

    All of them are in memory, and so are the features of a map that the layer itself would never
    write out: for sequences of some hundred steps.

    Args:
        layer: `CausalAttention`, with a window or without, `LinearAttention` or `HybridAttention`.
        x: (batch, time, d_model), the layer's input from the beginning.

    Returns:
        Rows that sum to one; a little less with linear attention, by its ε, and zero where every
        feature of a query is.
    """
    layer_type = type(layer).__name__
    if x.ndim != 3 or x.shape[2] != layer.d_model:
        raise ValueError(
            f"attention_weights: expected the input of this {layer_type}, (batch, time, "
            f"{layer.d_model}), got {tuple(x.shape)}"
        )
    q, k = queries_and_keys(layer, x)
    if isinstance(layer, CausalAttention):
        return softmax_rows(q, k, q.shape[-1] ** -0.5, layer.window)
    fq, fk = layer.feature_map.features(q, k)
    if isinstance(layer, HybridAttention):
        return hybrid_rows(q, k, fq, fk, layer.balance, layer.window)
    return linear_rows(fq, fk, layer.feature_map.eps)


def attention_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of attention weights, in nats, as a mean over queries.

    It is 0 where all weight is on one key; with equal weights that of query i (from 1) is log i.

    Args:
        weights: (…, time, time), such as (batch, n_head, time, time).

    Returns:
        (…,), for each head say.
    """
    _check("attention_entropy", weights)
    weights = weights.clamp(min=0)  # products of features may round to less
    return -torch.special.xlogy(weights, weights).sum(-1).mean(-1)


def spearman(scores: Tensor, weights: Tensor) -> Tensor:
    """Return Spearman's rank correlation of scores and weights, as a mean over queries.

    Each query's is over the keys up to itself; ties share the mean of their ranks. Queries with
    fewer than three keys say nothing and are left out. A query whose weights are all equal counts
    as 0: they do not rise.

    Args:
        scores: (…, time, time), q·k; what is above the diagonal is not looked at.
        weights: (…, time, time), likewise.

    Returns:
        (…,), for each head say, between -1 and 1.
    """
    _check("spearman", scores)
    if weights.shape != scores.shape:
        raise ValueError(
            f"spearman: expected weights of the scores' shape {tuple(scores.shape)}, "
            f"got {tuple(weights.shape)}"
        )
    time = scores.shape[-1]
    if time < _FEWEST_KEYS:
        raise ValueError(f"spearman: expected {_FEWEST_KEYS} steps or more, got {time}")
    flat = zip(scores.flatten(0, -3), weights.flatten(0, -3), strict=True)
    # One matrix at a time: ranks take several times its memory.
    return torch.stack([_spearman(s, w) for s, w in flat]).view(scores.shape[:-2])


_FEWEST_KEYS = 3


def _spearman(scores: Tensor, weights: Tensor) -> Tensor:
    """The mean over queries of two matrices (time, time)."""
    first = _FEWEST_KEYS - 1
    seen = torch.ones_like(scores, dtype=torch.bool).tril()[first:]
    count = seen.sum(-1, keepdim=True)
    centre = (count + 1) / 2  # of the ranks 1 … count, ties or not
    a, b = (
        torch.where(seen, _ranks(t[first:].double().masked_fill(~seen, torch.inf)) - centre, 0.0)
        for t in (scores, weights)
    )
    spread = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return ((a * b).sum(-1) / spread.masked_fill(spread == 0, 1)).mean()


def _ranks(x: Tensor) -> Tensor:
    """Ranks from 1 along the last dimension, those of ties averaged."""
    ordered = x.sort(-1).values
    below = torch.searchsorted(ordered, x)
    up_to = torch.searchsorted(ordered, x, right=True)
    return (below + up_to + 1).to(x.dtype) / 2


def _check(name: str, weights: Tensor) -> None:
    if weights.ndim < 3 or weights.shape[-1] != weights.shape[-2]:
        raise ValueError(
            f"{name}: expected (…, time, time) with a batch or heads before, "
            f"got {tuple(weights.shape)}"
        )
