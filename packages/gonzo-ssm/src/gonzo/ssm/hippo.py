"""HiPPO matrices, which make a state remember its past, and their structured form.

    LegS  A[n, k] = -B[n] B[k] for n > k,  -(n+1) for n = k,  0 above;    B[n] = sqrt(2n+1)
    LegT  A[n, k] = -2 B[n] B[k] · (1 for n >= k, (-1)^(n-k) above);      B[n] = ½ sqrt(2n+1)
    FouT  A = F - B Bᵀ,  F turning the plane (2k, 2k+1) at πk;            B = 1, 0, √2, 0, √2, 0, …

LegS remembers the whole past in Legendre polynomials, LegT a window of length 1 (so of 1/Δ steps),
FouT that window in sines and cosines. Gu, Dao, Ermon, Rudra, Ré: HiPPO (2020),
https://arxiv.org/abs/2008.07669; Gu, Johnson, Timalsina, Rudra, Ré: How to Train Your HiPPO (2022),
https://arxiv.org/abs/2206.12037.

None of them can be diagonalised stably. But A + P Pᵀ = -½ I + S (LegS), S (LegT, FouT) with S
skew-symmetric and P of rank 1, 2 and 1, so in the eigenvectors of S it is Λ - P P* (S4, theorem 1).

Deviation: eigenvectors have an arbitrary phase, so the original's initial values differ between
LAPACK builds and it clips Im B to ±2, which keeps a fifth of B at n = 64. Here each phase is
chosen so that P is real and positive. Then B = sqrt(2) P exactly for LegS, on every machine, and
nothing is clipped. ``clip_b`` asks for the original's way, with LAPACK's phases.

Deviation: Re Λ of LegT and FouT, 0 in exact arithmetic, is -1e-4, since it is stored as a
logarithm. The original does the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gonzo.core.complex_pairs import pair

DPLRInit = Literal["legs", "legt", "fout"]
_CLIP = 2.0
_LEAST_DAMPING = 1e-4


class DPLR(NamedTuple):
    """A = diag(Λ) - Σ_r P_r P_r* and B, one of each conjugate pair, as real pairs in float64."""

    a: Tensor
    """(n/2, 2): Λ."""
    p: Tensor
    """(rank, n/2, 2)."""
    b: Tensor
    """(n/2, 2)."""


def legs(n: int) -> tuple[Tensor, Tensor]:
    """Return the dense HiPPO-LegS A (n, n) and B (n,), in float64."""
    root = _roots(n)
    a = -torch.tril(torch.outer(root, root), diagonal=-1)
    return a - torch.diag(torch.arange(1, n + 1, dtype=torch.float64)), root


def legt(n: int) -> tuple[Tensor, Tensor]:
    """Return the dense HiPPO-LegT A (n, n) and B (n,), in float64."""
    root = _roots(n)
    sign = (-1.0) ** torch.arange(n, dtype=torch.float64)
    lower = torch.ones(n, n, dtype=torch.float64).tril()
    pattern = torch.where(lower.bool(), lower, torch.outer(sign, sign))
    return -torch.outer(root, root) * pattern / 2, root / 2


def fout(n: int) -> tuple[Tensor, Tensor]:
    """Return the dense HiPPO-FouT A (n, n) and B (n,) of even size `n`, in float64."""
    b = torch.zeros(n, dtype=torch.float64)
    b[::2] = 2**0.5
    b[0] = 1
    turn = torch.zeros(n - 1, dtype=torch.float64)
    turn[::2] = math.pi * torch.arange(n // 2, dtype=torch.float64)
    return torch.diag(turn, -1) - torch.diag(turn, 1) - torch.outer(b, b), b


def legs_dplr(n: int, *, clip_b: bool = False) -> DPLR:
    """Return HiPPO-LegS of even size `n` as diagonal plus rank one, slowest oscillation first.

    Args:
        n: the size.
        clip_b: take the eigenvectors' phases as LAPACK returns them and clip Im B to ±2, as the
            original does; such values differ between machines.
    """
    a, b = legs(n)
    dplr = _dplr(a, b, (b / 2**0.5)[None], damping=0.5, clip_b=clip_b)
    return dplr if clip_b else dplr._replace(b=2**0.5 * dplr.p[0])


def legt_dplr(n: int, *, clip_b: bool = False) -> DPLR:
    """Return HiPPO-LegT of even size `n` as diagonal plus rank two; see `legs_dplr`."""
    a, b = legt(n)
    even = torch.arange(n) % 2 == 0
    p = 2**0.5 * torch.stack([torch.where(even, b, 0), torch.where(even, 0, b)])
    return _dplr(a, b, p, damping=_LEAST_DAMPING, clip_b=clip_b)


def fout_dplr(n: int, *, clip_b: bool = False) -> DPLR:
    """Return HiPPO-FouT of even size `n` as diagonal plus rank one; see `legs_dplr`.

    Its eigenvectors are (e_2k - i e_2k+1)/sqrt(2), in which B = P is real:
    `clip_b` changes nothing.
    """
    frequency = math.pi * torch.arange(n // 2, dtype=torch.float64)
    b = torch.ones_like(frequency)
    b[0] = 0.5**0.5
    b = pair(b, torch.zeros_like(b))
    return DPLR(pair(torch.full_like(frequency, -_LEAST_DAMPING), frequency), b[None], b)


DPLR_INITS: dict[str, Callable[..., DPLR]] = {
    "legs": legs_dplr,
    "legt": legt_dplr,
    "fout": fout_dplr,
}


def legs_normal(n: int) -> tuple[Tensor, Tensor]:
    """Return HiPPO-N, the normal part A + P Pᵀ of HiPPO-LegS of even size `n`, by its modes.

    Returns:
        Λ (n/2, 2) and the eigenvectors V (n, n/2, 2) as real pairs in float64, one of each
        conjugate pair, in the order and with the phases of `legs_dplr`.
    """
    a, b = legs(n)
    p = b / 2**0.5
    frequency, vectors = _modes(a + torch.outer(p, p))
    phase = vectors.mH @ p.to(vectors.dtype)
    vectors = vectors * (phase / phase.abs())
    return pair(torch.full_like(frequency, -0.5), frequency), torch.view_as_real(vectors)


def _roots(n: int) -> Tensor:
    return torch.sqrt(2 * torch.arange(n, dtype=torch.float64) + 1)


def _modes(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Im Λ (n/2,), positive and ascending, and eigenvectors (n, n/2) of a normal matrix."""
    skew = (normal - normal.mT) / 2
    frequency, vectors = torch.linalg.eigh(torch.complex(torch.zeros_like(skew), -skew))
    # Frequencies come in pairs ±f; ascending order puts the positive ones last.
    half = len(frequency) // 2
    return frequency[half:], vectors[:, half:]


def _dplr(a: Tensor, b: Tensor, p: Tensor, *, damping: float, clip_b: bool) -> DPLR:
    """In the modes of A + Σ_r P_r P_rᵀ, for dense a (n, n), b (n,) and p (rank, n)."""
    frequency, vectors = _modes(a + p.mT @ p)
    lamda = pair(torch.full_like(frequency, -damping), frequency)
    b_, p_ = (v.to(vectors.dtype) @ vectors.conj() for v in (b, p))
    if clip_b:
        b_ = torch.complex(b_.real, b_.imag.clamp(-_CLIP, _CLIP))
    else:
        size = p_[0].abs()
        turn = p_[0].conj() / size
        b_, p_ = b_ * turn, p_ * turn
        p_[0] = size  # rounding leaves no phase
    return DPLR(lamda, torch.view_as_real(p_.resolve_conj()), torch.view_as_real(b_.resolve_conj()))
