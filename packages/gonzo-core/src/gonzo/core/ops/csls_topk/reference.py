"""Retrieval by cosine, CSLS and inverted softmax as the papers write them: the judge of the others.

With c_ij the cosine of source word i and target word j, r_i the mean of the `neighbours` largest of
row i and r_j that of column j, both over the whole vocabularies:

    CSLS_ij = 2 c_ij - r_j - r_i            ISF_ij = T c_ij - log Σ_i' exp(T c_i'j)

Computed in float64; the matrix of all cosines is stored.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_topk(
    source: Tensor, target: Tensor, k: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The k largest cosines of each row asked for, and their columns."""
    return _best(_cosines(source, target), k, rows, source.dtype)


def csls_topk(
    source: Tensor, target: Tensor, k: int, neighbours: int, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The k largest CSLS scores of each row asked for, and their columns."""
    return _best(_csls(_cosines(source, target), neighbours), k, rows, source.dtype)


def csls_topk_both(
    source: Tensor,
    target: Tensor,
    k: int,
    neighbours: int,
    source_rows: Tensor | None,
    target_rows: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for source words among targets, then for target words among sources."""
    scores = _csls(_cosines(source, target), neighbours)
    forth = _best(scores, k, source_rows, source.dtype)
    return *forth, *_best(scores.mT, k, target_rows, source.dtype)


def inverted_softmax_topk(
    source: Tensor, target: Tensor, k: int, temperature: float, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The k largest logarithms of an inverted softmax of each row asked for, and their columns."""
    scaled = temperature * _cosines(source, target)
    return _best(scaled - scaled.logsumexp(0), k, rows, source.dtype)


def neighbourhood_means(source: Tensor, target: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """The r of every source word and of every target word."""
    forth, back = _means(_cosines(source, target), neighbours)
    return forth.to(source.dtype), back.to(source.dtype)


def _cosines(source: Tensor, target: Tensor) -> Tensor:
    return _unit(source) @ _unit(target).mT  # (n, m)


def _unit(vectors: Tensor) -> Tensor:
    """Rows of length one in float64; a row of zeros stays."""
    vectors = vectors.double()
    largest = vectors.abs().amax(1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1.0)
    norm = vectors.norm(dim=1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, 1.0)


def _means(cosines: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    n, m = cosines.shape
    forth = cosines.topk(min(neighbours, m), dim=1).values.mean(1)
    return forth, cosines.topk(min(neighbours, n), dim=0).values.mean(0)


def _csls(cosines: Tensor, neighbours: int) -> Tensor:
    forth, back = _means(cosines, neighbours)
    return 2 * cosines - back - forth[:, None]


def _best(scores: Tensor, k: int, rows: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    scores = scores if rows is None else scores[rows]
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k].to(dtype).contiguous(), indices[:, :k].contiguous()
