"""The orthogonal map that takes one set of vectors closest to another (Schönemann 1966).

    W = argmin over orthogonal W of  sum_i |W x_i - y_i|²  =  U Vᵀ,   U S Vᵀ = svd(Yᵀ X)

Rows are words, so a mapped source is ``source @ W.T``.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest_orthogonal", "orthogonality_error", "procrustes", "towards_orthogonal"]


def procrustes(source: Tensor, target: Tensor) -> Tensor:
    """Return the orthogonal W with the least sum of squared distances of W x_i to y_i.

    Args:
        source: (n, d) vectors; row i is to land on row i of `target`.
        target: (n, d) vectors.

    Returns:
        (d, d) in the inputs' dtype; ``source @ W.T`` is the mapped source. It is unique when
        ``target.T @ source`` has full rank, which needs at least d pairs.

    Raises:
        ValueError: the shapes or dtypes differ, there is no row, or a number is not finite.

    Source: Xing et al. 2015; Smith et al. 2017; equation 2 of Conneau et al. 2018.
    """
    if source.ndim != 2 or source.shape != target.shape:
        raise ValueError(
            "procrustes: expected source and target of one shape (pairs, d), got "
            f"{tuple(source.shape)} and {tuple(target.shape)}"
        )
    if source.dtype != target.dtype or not source.is_floating_point():
        raise ValueError(
            "procrustes: expected two floating-point tensors of one dtype, got "
            f"{source.dtype} and {target.dtype}"
        )
    if not len(source):
        raise ValueError("procrustes: expected at least one pair, got none")
    product = target.T @ source
    if not bool(product.isfinite().all()):
        raise ValueError("procrustes: expected finite vectors, found NaN or infinity")
    return nearest_orthogonal(product)


def nearest_orthogonal(matrix: Tensor) -> Tensor:
    """Return the orthogonal matrix closest to a square `matrix`: its polar factor."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def towards_orthogonal(mapping: Tensor, rate: float) -> Tensor:
    """Return W after one step towards the orthogonal matrices.

        (1 + rate) W - rate (W Wᵀ) W

    Every singular value s goes to s + rate s (1 - s²), so 1 stays and values near it come closer.

    Source: equation 7 of Conneau et al. 2018.
    """
    return torch.addmm(mapping, mapping @ mapping.T, mapping, beta=1 + rate, alpha=-rate)


def orthogonality_error(mapping: Tensor) -> float:
    """Return the largest entry of |W Wᵀ - I|."""
    identity = torch.eye(len(mapping), dtype=mapping.dtype, device=mapping.device)
    return float((mapping @ mapping.T - identity).abs().max())
