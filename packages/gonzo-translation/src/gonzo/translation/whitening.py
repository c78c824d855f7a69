"""Two maps into a common space from pairs: whitened, rotated, re-weighted, de-whitened.

Artetxe, Labaka and Agirre, Generalizing and Improving Bilingual Word Embedding Mappings with a
Multi-Step Framework of Linear Transformations, AAAI 2018, with the choices of section 3.4 of their
A Robust Self-Learning Method, ACL 2018: with X and Z the pairs and U S Vᵀ the singular value
decomposition of their whitened cross-covariance,

    source map = (XᵀX)^-½ U S^½ Uᵀ (XᵀX)^½ U,      target map = (ZᵀZ)^-½ V S^½ Vᵀ (ZᵀZ)^½ V.

Directions in which no pair has a component, as there are where pairs are fewer than dimensions, are
left out: there -½ is the power of the pseudo-inverse, and the maps take such directions to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reweighted_maps(
    source_pairs: Tensor, target_pairs: Tensor, power: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Fit a map of each side by which the directions that both sides share weigh more.

    Args:
        source_pairs: (p, d) vectors of source words.
        target_pairs: (p, d) vectors of their translations.
        power: Of the singular values, on each side. With 0 the maps are rotations of the spaces
            that the pairs span, found on whitened vectors.

    Returns:
        Source map A and target map B, (d, d) each, applied as ``x @ A.T`` and ``z @ B.T``.

    Raises:
        ValueError: The pairs are not of one shape (p, d), or there are none.
    """
    if (
        source_pairs.ndim != 2
        or source_pairs.shape != target_pairs.shape
        or not source_pairs.numel()
    ):
        raise ValueError(
            f"reweighted_maps: expected two matrices of one shape (pairs, dimensions), got "
            f"{tuple(source_pairs.shape)} and {tuple(target_pairs.shape)}"
        )
    # In float64: the products of the vectors with themselves square their condition.
    x, z = source_pairs.double(), target_pairs.double()
    dtype = source_pairs.dtype
    (root_x, inverse_x), (root_z, inverse_z) = _root(x, dtype), _root(z, dtype)
    cross = inverse_x @ (x.mT @ z) @ inverse_z
    left, values, right = torch.linalg.svd(cross)
    weight = values.pow(power)
    # Row vectors go through these from left to right: x @ inverse @ left …
    source = inverse_x @ (left * weight) @ left.mT @ root_x @ left
    target = inverse_z @ (right.mT * weight) @ right @ root_z @ right.mT
    return source.mT.to(dtype).contiguous(), target.mT.to(dtype).contiguous()


def _root(pairs: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """(XᵀX)^½ and its pseudo-inverse, (d, d) each, of X that was given in `precision`."""
    values, vectors = torch.linalg.eigh(pairs.mT @ pairs)
    d = len(values)
    # Below this a value is what rounding left: of the vectors, squared, or of the product. Divided
    # by, it would count as much as the directions that there are.
    least = max((d * torch.finfo(precision).eps) ** 2, 4 * d * torch.finfo(pairs.dtype).eps)
    there = values > least * values[-1]
    roots = torch.where(there, values, 0.0).sqrt()
    inverses = torch.where(there, 1 / roots, 0.0)
    return (vectors * roots) @ vectors.mT, (vectors * inverses) @ vectors.mT
