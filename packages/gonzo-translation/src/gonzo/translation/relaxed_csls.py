"""RCSLS: a mapping trained on pairs for the criterion that retrieval uses, not for squared error.

Joulin, Bojanowski, Mikolov, Jégou and Grave, Loss in Translation: Learning Bilingual Word Mapping
with a Retrieval Criterion, EMNLP 2018. https://arxiv.org/abs/1804.07745 With N_Y(Wx) the k target
vectors nearest to a mapped source vector and N_X(y) the k source vectors mapped nearest to y, the
mapping minimises (their equation 3), over pairs of unit vectors,

    1/p Σ_i [ -2 x_iᵀ Wᵀ y_i + 1/k Σ_{y ∈ N_Y(W x_i)} x_iᵀ Wᵀ y + 1/k Σ_{x ∈ N_X(y_i)} xᵀ Wᵀ y_i ],

which is convex over the convex set of matrices of spectral norm at most 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gonzo.translation.orthogonal import nearest_orthogonal, procrustes

Projection = Literal["spectral", "orthogonal", "none"]

_SMALLEST_RATE = 1e-4
_BLOCK = 2**24
"""Scores held at once."""


class RelaxedCSLS(NamedTuple):
    """What `rcsls` found.

    Attributes:
        mapping: W (d, d), applied as ``x @ W.T``.
        losses: Of the start and after each accepted step; they never rise.
    """

    mapping: Tensor
    losses: tuple[float, ...]


def rcsls(
    source_pairs: Tensor,
    target_pairs: Tensor,
    source: Tensor,
    target: Tensor,
    *,
    start: Tensor | None = None,
    neighbours: int = 10,
    steps: int = 10,
    learning_rate: float = 1.0,
    projection: Projection = "spectral",
    max_rows: int = 200_000,
) -> RelaxedCSLS:
    """Fit a mapping to pairs of words by the relaxed CSLS criterion.

    Projected gradient descent with the neighbours fixed within a step, which is a subgradient of
    the loss. A step that would raise the loss is taken back and the learning rate halved. Every
    vector is brought to length one first: the criterion speaks of cosines. Ties between neighbours
    are broken as torch.topk breaks them, which does not change the loss.

    Deviation: what the losses speak of is the mapping that is returned. The authors' code holds
    each loss beside the mapping one step later, and so may end one step after the best.

    Args:
        source_pairs: (p, d) vectors of the source words of the pairs.
        target_pairs: (p, d) vectors of their translations.
        source: (n, d) the source vocabulary, most frequent first, where neighbours are looked for.
        target: (m, d) the target vocabulary.
        start: (d, d) the mapping to begin with; by default the Procrustes solution of the pairs.
            It is projected, too.
        neighbours: k of the criterion; cut to the smaller vocabulary.
        steps: How many gradients are taken, those of refused steps included.
        learning_rate: The first; the loop ends when halving takes it below 1e-4.
        projection: After each step: onto spectral norm at most 1 (the paper's), onto the
            orthogonal matrices, or nowhere. Without a projection the loss has no minimum: where it
            is negative, a longer mapping has a lower one; the steps bound it.
        max_rows: How many of the most frequent words of each vocabulary can be neighbours.

    Returns:
        The mapping and its losses.

    Raises:
        ValueError: Shapes that do not fit, no pairs, an unknown projection, numbers below 1, or a
            learning rate that is not positive.
        TypeError: Dtypes differ or are not floating.
    """
    _check(source_pairs, target_pairs, source, target, start)
    for name, value in (("neighbours", neighbours), ("max_rows", max_rows)):
        if value < 1:
            raise ValueError(f"rcsls: expected {name} of at least 1, got {value}")
    if steps < 0 or not learning_rate > 0:
        raise ValueError(
            f"rcsls: expected steps of at least 0 and a positive learning rate, "
            f"got {steps} and {learning_rate}"
        )
    if projection not in _PROJECTIONS:
        raise ValueError(
            f"rcsls: expected projection to be one of {', '.join(_PROJECTIONS)}, got {projection!r}"
        )
    project = _PROJECTIONS[projection]
    x, y = _unit(source_pairs), _unit(target_pairs)
    words = _unit(source[:max_rows]), _unit(target[:max_rows])
    mapping = procrustes(x, y) if start is None else start.to(x.dtype)
    mapping = project(mapping)
    loss, gradient = relaxed_csls_loss(mapping, x, y, *words, neighbours)
    losses = [loss]
    for _ in range(steps):
        if learning_rate < _SMALLEST_RATE:
            break
        tried = project(mapping - learning_rate * gradient)
        loss, new = relaxed_csls_loss(tried, x, y, *words, neighbours)
        if loss > losses[-1]:
            learning_rate /= 2
            continue
        mapping, gradient = tried, new
        losses.append(loss)
    return RelaxedCSLS(mapping, tuple(losses))


def relaxed_csls_loss(
    mapping: Tensor, x: Tensor, y: Tensor, source: Tensor, target: Tensor, neighbours: int
) -> tuple[float, Tensor]:
    """Return the criterion and its gradient for W.

    Args:
        mapping: W (d, d).
        x: (p, d) unit vectors of the pairs' source words.
        y: (p, d) unit vectors of their translations.
        source: (n, d) unit vectors of the source vocabulary.
        target: (m, d) unit vectors of the target vocabulary.
        neighbours: k, cut to the smaller vocabulary.

    Returns:
        The loss, and its gradient (d, d) with the neighbours held fixed.
    """
    neighbours = min(neighbours, len(source), len(target))
    mapped = x @ mapping.mT
    near_x, mean_x = _nearest(mapped, target, neighbours)
    # W acts on the vocabulary once and not on each neighbour: yᵀ W z is (Wᵀ y)ᵀ z.
    near_y, mean_y = _nearest(y @ mapping, source, neighbours)
    loss = (near_x + near_y - 2 * (mapped * y).sum(1)).mean()
    pull = mean_x - 2 * y
    gradient = (pull.mT @ x + y.mT @ mean_y) / len(x)
    return float(loss), gradient


def _nearest(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The mean of the k largest inner products (q,) of each query, and the mean key (q, d)."""
    scores, means = [], []
    for block in queries.split(max(1, _BLOCK // len(keys))):
        best = (block @ keys.mT).topk(k, dim=1)
        scores.append(best.values.mean(1))
        means.append(
            torch.nn.functional.embedding_bag(best.indices, keys, mode="mean")  # no (q, k, d)
        )
    return torch.cat(scores), torch.cat(means)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.detach(), dim=1)


def _spectral(matrix: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(matrix)
    return (left * values.clamp(max=1)) @ right


def _unchanged(matrix: Tensor) -> Tensor:
    return matrix


_PROJECTIONS = {"spectral": _spectral, "orthogonal": nearest_orthogonal, "none": _unchanged}


def _check(
    source_pairs: Tensor, target_pairs: Tensor, source: Tensor, target: Tensor, start: Tensor | None
) -> None:
    if source_pairs.ndim != 2 or source_pairs.shape != target_pairs.shape or not len(source_pairs):
        raise ValueError(
            f"rcsls: expected source_pairs and target_pairs of one shape (pairs, dimensions), got "
            f"{tuple(source_pairs.shape)} and {tuple(target_pairs.shape)}"
        )
    dim = source_pairs.shape[1]
    for name, vectors in (("source", source), ("target", target)):
        if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors):
            raise ValueError(
                f"rcsls: expected {name} of shape (words, {dim}) like the pairs, "
                f"got {tuple(vectors.shape)}"
            )
    if start is not None and start.shape != (dim, dim):
        raise ValueError(f"rcsls: expected start of shape ({dim}, {dim}), got {tuple(start.shape)}")
    dtypes = {t.dtype for t in (source_pairs, target_pairs, source, target)}
    if len(dtypes) > 1 or not source.is_floating_point():
        raise TypeError(
            f"rcsls: expected all vectors in one floating dtype, got "
            f"{', '.join(sorted(map(str, dtypes)))}"
        )
