"""The S4 kernel: Cauchy sums on a circle, the Woodbury correction and an inverse FFT, in one op.

The generating function of K_l = C Ā^l B̄, with Ā and B̄ the bilinear discretisation of
A = Λ - P Q*, is (S4, section 3.2)

    K̂(ζ) = Σ_l K_l ζ^l = 2/(1+ζ) · [k_CB - k_CP k_QB / (1 + k_QP)]
    k_xy(g) = Σ_n v_n / (g - Δλ_n) + conj(v_n) / (g - conj(Δλ_n)),   g = 2 (1-ζ)/(1+ζ).

Deviation: the paper truncates the series through C̃ = C (I - Ā^L), which costs a matrix power (or
a parameter that depends on L), and evaluates it at roots of unity. Here the infinite series is
evaluated on a circle of radius r < 1 and the damping is undone: with n nodes the inverse FFT
returns r^l K_l + r^(l+n) K_(l+n) + …, so K_l is known to r^n. In float64 r^n = 1e-8 balances that
against rounding (Lubich 1988; Abate and Whitt 1992), far below a float32 unit; a float64 result
takes four times the nodes and reaches 1e-12. K then does not depend on the length it was asked
for, there is no matrix power to differentiate, and no node is a pole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gonzo.core.ops.checks import check_length, check_output_dtype, check_pairs

from . import register  # noqa: F401  (registers the op)


def cauchy(
    cb: Tensor,
    cp: Tensor,
    qb: Tensor,
    qp: Tensor,
    w: Tensor,
    length: int,
    *,
    dtype: torch.dtype = torch.float32,
    backend: str | None = None,
) -> Tensor:
    """Evaluate the convolution kernel of a diagonal-plus-rank-one state space model.

    One of each conjugate pair is stored; the other is implied. The sums run in float64, four at a
    time and a block of heads at a time, and are recomputed in the backward pass: memory is O(H·L).
    The model must be stable (Re w < 0 and A's Hermitian part negative, as P = Q ensures).

    Args:
        cb: (heads, n, 2) real and imaginary parts of Δ C B, float32 or float64.
        cp: (heads, n, 2), Δ C P.
        qb: (heads, n, 2), Δ conj(Q) B.
        qp: (heads, n, 2), Δ conj(Q) P.
        w: (heads, n, 2), Δ Λ.
        length: number of kernel taps, at least 1.
        dtype: of the result, float32 or float64.
        backend: see `gonzo.core.backend`.

    Returns:
        (heads, length)

    Raises:
        ValueError: wrong shapes or length.
        TypeError: wrong dtypes.

    Source:
        Gu, Goel, Ré: Efficiently Modeling Long Sequences with Structured State Spaces (2021),
        algorithm 1. https://arxiv.org/abs/2111.00396
    """
    check_pairs("cauchy", cb=cb, cp=cp, qb=qb, qp=qp, w=w)
    check_length("cauchy", length)
    check_output_dtype("cauchy", dtype)
    return torch.ops.gonzo.cauchy(cb, cp, qb, qp, w, length, dtype, backend or "")
