"""Hubness: in many dimensions a few points are the nearest neighbours of very many others.

N_k(j), how often target j is among the k best of a source row, has the mean k·q/m whatever the
score. Hubs make its distribution skewed, and leave many targets that nobody is near to:

    S = E(N_k - mean)³ / σ³

Sources:
    Radovanović, Nanopoulos and Ivanović: Hubs in Space (2010), section 2: N_k and its skewness.
    Dinu, Lazaridou and Baroni: Improving Zero-Shot Learning by Mitigating the Hubness Problem
    (2015): hubs as wrong translations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gonzo.translation.retrieval import Method, retrieve

__all__ = ["Hubness", "k_occurrence", "measure_hubness"]


def k_occurrence(indices: Tensor, targets: int) -> Tensor:
    """Count how often each target was retrieved: N_k.

    Args:
        indices: (q, k) int64 target rows, each at most once in a row: `Retrieved.indices`.
        targets: m, the size of the target vocabulary.

    Returns:
        (m,) int64; the sum is q·k.

    Raises:
        ValueError: another shape, or rows out of 0 … m - 1.
    """
    if indices.ndim != 2 or indices.dtype != torch.int64:
        raise ValueError(
            "k_occurrence: expected indices as int64 of shape (q, k), got "
            f"{indices.dtype} of shape {tuple(indices.shape)}"
        )
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < targets:
        raise ValueError(
            f"k_occurrence: expected rows in 0 … {targets - 1}, got {int(indices.min())} … "
            f"{int(indices.max())}"
        )
    return indices.flatten().bincount(minlength=targets)


@dataclass(frozen=True, eq=False)
class Hubness:
    """The k-occurrences of all targets, and what is read off them.

    Args:
        counts: (m,) int64, `k_occurrence`.
    """

    counts: Tensor

    @property
    def skewness(self) -> float:
        """Third standardised moment: 0 without hubs, above 1 with strong ones."""
        counts = self.counts.double()
        off = counts - counts.mean()
        spread = off.square().mean().sqrt()
        return float((off**3).mean() / spread**3) if spread > 0 else 0.0

    @property
    def anti_hubs(self) -> float:
        """Share of the targets that nothing retrieves."""
        return float((self.counts == 0).double().mean())

    def top(self, number: int = 10) -> list[tuple[int, int]]:
        """Return the largest hubs as (target row, count), the largest first, then by row."""
        counts, rows = self.counts.sort(descending=True, stable=True)
        return list(zip(rows[:number].tolist(), counts[:number].tolist(), strict=True))


def measure_hubness(
    source: Tensor,
    target: Tensor,
    *,
    k: int = 10,
    method: Method = "csls",
    neighbours: int = 10,
    temperature: float = 30.0,
    rows: Tensor | None = None,
) -> Hubness:
    """Retrieve k targets for the source rows and count who is retrieved.

    Args:
        source: (n, d) mapped vectors.
        target: (m, d)
        k: 1 … m; 10 is what the papers look at.
        method: the score, "csls", "nn" or "isf".
        neighbours: of CSLS.
        temperature: of the inverted softmax.
        rows: (q,) int64 source rows that ask; None is all of them.

    Raises:
        ValueError: as `retrieve`.
    """
    found = retrieve(
        source,
        target,
        k,
        method=method,
        neighbours=neighbours,
        temperature=temperature,
        rows=rows,
    )
    return Hubness(k_occurrence(found.indices, len(target)))
