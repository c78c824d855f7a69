"""HiPPO-LegS: the matrix that makes a state remember its whole past, and its structured form.

    A[n, k] = -sqrt(2n+1) sqrt(2k+1) for n > k,   -(n+1) for n = k,   0 above;   B[n] = sqrt(2n+1)

Gu, Dao, Ermon, Rudra, Ré: HiPPO (2020), https://arxiv.org/abs/2008.07669. A itself cannot be
diagonalised stably, but A + P Pᵀ = -½ I + S with S skew-symmetric and P[n] = sqrt(n+½), so in the
eigenvectors of S it is Λ - P P* (S4, theorem 1).

Deviation: eigenvectors have an arbitrary phase, so the original's initial values differ between
LAPACK builds and it clips Im B to ±2, which keeps a fifth of B at n = 64. Here each phase is
chosen so that P is real and positive. Then B = sqrt(2) P exactly, on every machine, and nothing is
clipped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.core.complex_pairs import pair


class DPLR(NamedTuple):
    """A = diag(Λ) - P P* and B, one of each conjugate pair, as real pairs in float64."""

    a: Tensor
    """(n/2, 2): Λ."""
    p: Tensor
    """(n/2, 2)."""
    b: Tensor
    """(n/2, 2)."""


def legs(n: int) -> tuple[Tensor, Tensor]:
    """Return the dense HiPPO-LegS A (n, n) and B (n,), in float64."""
    root = torch.sqrt(2 * torch.arange(n, dtype=torch.float64) + 1)
    a = -torch.tril(torch.outer(root, root), diagonal=-1)
    return a - torch.diag(torch.arange(1, n + 1, dtype=torch.float64)), root


def legs_dplr(n: int) -> DPLR:
    """Return HiPPO-LegS of even size `n` as diagonal plus rank one, slowest oscillation first."""
    a, b = legs(n)
    p = b / 2**0.5
    skew = a + torch.outer(p, p) + 0.5 * torch.eye(n, dtype=torch.float64)
    frequency, vectors = torch.linalg.eigh(torch.complex(torch.zeros_like(skew), -skew))
    # Frequencies come in pairs ±f; ascending order puts the positive ones last.
    frequency, vectors = frequency[n // 2 :], vectors[:, n // 2 :]
    size = (vectors.mH @ p.to(vectors.dtype)).abs()
    p_pairs = pair(size, torch.zeros_like(size))
    return DPLR(pair(torch.full_like(frequency, -0.5), frequency), p_pairs, 2**0.5 * p_pairs)


def legs_normal(n: int) -> tuple[Tensor, Tensor]:
    """Return HiPPO-N, the normal part A + P Pᵀ of HiPPO-LegS of even size `n`, by its modes.

    Returns:
        Λ (n/2, 2) and the eigenvectors V (n, n/2, 2) as real pairs in float64, one of each
        conjugate pair, in the order and with the phases of `legs_dplr`.
    """
    a, b = legs(n)
    p = b / 2**0.5
    skew = a + torch.outer(p, p) + 0.5 * torch.eye(n, dtype=torch.float64)
    frequency, vectors = torch.linalg.eigh(torch.complex(torch.zeros_like(skew), -skew))
    frequency, vectors = frequency[n // 2 :], vectors[:, n // 2 :]
    phase = vectors.mH @ p.to(vectors.dtype)
    vectors = vectors * (phase / phase.abs())
    return pair(torch.full_like(frequency, -0.5), frequency), torch.view_as_real(vectors)
