"""Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing their mean.

Source: Spearman: The Proof and Measurement of Association between Two Things (1904).
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["average_ranks", "spearman"]


def average_ranks(values: Tensor) -> Tensor:
    """Rank values from 1; equal values have the mean of the ranks that they fill.

    Args:
        values: (n,) numbers.

    Returns:
        (n,) float64

    Raises:
        ValueError: another shape, or NaN.
    """
    if values.ndim != 1:
        raise ValueError(f"expected values of shape (n,), got {tuple(values.shape)}")
    if values.isnan().any():
        raise ValueError(f"expected numbers, got NaN at {int(values.isnan().nonzero()[0])}")
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]


def spearman(first: Tensor, second: Tensor) -> float:
    """Correlate the ranks of two samples.

    Args:
        first: (n,) numbers, n at least 2.
        second: (n,)

    Returns:
        -1 … 1; NaN if all values of a sample are equal, as there is no order to agree with.

    Raises:
        ValueError: other shapes, fewer than 2, or NaN.
    """
    if first.shape != second.shape or len(first) < 2:
        raise ValueError(
            "spearman: expected two samples of the same size, at least 2, got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    x, y = average_ranks(first), average_ranks(second)
    x, y = x - x.mean(), y - y.mean()
    scale = (x @ x * (y @ y)).sqrt()  # exact for equal orders: their correlation is 1, not nearly
    return float((x @ y / scale).clamp(-1, 1)) if scale > 0 else float("nan")
