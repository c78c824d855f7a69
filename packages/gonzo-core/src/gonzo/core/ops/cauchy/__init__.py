"""The S4 kernel: Cauchy sums on a circle, the Woodbury correction and an inverse FFT, in one op.

The generating function of K_l = C Ā^l B̄, with Ā and B̄ the bilinear discretisation of
A = Λ - P Q*, is (S4, section 3.2)

    K̂(ζ) = Σ_l K_l ζ^l = 2/(1+ζ) · [k_CB - k_CP k_QB / (1 + k_QP)]
    k_xy(g) = Σ_n v_n / (g - Δλ_n) + conj(v_n) / (g - conj(Δλ_n)),   g = 2 (1-ζ)/(1+ζ).

With P and Q of rank r (HiPPO-LegT takes 2), k_CP is a row, k_QB a column and k_QP a matrix, and
the bracket is k_CB - k_CP (1 + k_QP)^-1 k_QB.

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

from gonzo.core.ops.checks import (
    check_alike,
    check_length,
    check_output_dtype,
    check_pairs,
    check_precision,
    shape_of_pairs,
)

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
    """Evaluate the convolution kernel of a diagonal-plus-low-rank state space model.

    One of each conjugate pair is stored; the other is implied. The sums run in float64, four at a
    time and a block of heads at a time, and are recomputed in the backward pass: memory is O(H·L).
    The model must be stable (Re w < 0 and A's Hermitian part negative, as P = Q ensures).

    P and Q of rank one are vectors. Of rank r they are r vectors each, and the arguments that they
    are in have axes for them. An axis of size 1 means the same as none.

    Args:
        cb: (heads, n, 2) real and imaginary parts of Δ C B, float32 or float64.
        cp: (heads, n, 2), Δ C P; or (heads, rank, n, 2), Δ C P_j.
        qb: (heads, n, 2), Δ conj(Q) B; or (heads, rank, n, 2), Δ conj(Q_i) B.
        qp: (heads, n, 2), Δ conj(Q) P; or (heads, rank, rank, n, 2), Δ conj(Q_i) P_j at [:, i, j].
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
    if cp.ndim > 3 or qb.ndim > 3 or qp.ndim > 3:
        _check_low_rank(cb, cp, qb, qp, w)
        if cp.shape[1] == 1:  # the kernels of rank one need no solution of a system
            cp, qb, qp = cp[:, 0], qb[:, 0], qp[:, 0, 0]
    else:
        check_pairs("cauchy", cb=cb, cp=cp, qb=qb, qp=qp, w=w)
    check_length("cauchy", length)
    check_output_dtype("cauchy", dtype)
    return torch.ops.gonzo.cauchy(cb, cp, qb, qp, w, length, dtype, backend or "")


def _check_low_rank(cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor) -> None:
    check_pairs("cauchy", cb=cb, w=w)
    heads, n, _ = cb.shape
    if cp.ndim != 4 or cp.shape != (heads, cp.shape[1], n, 2) or not cp.shape[1]:
        raise ValueError(
            f"cauchy: beside an argument with axes of rank, expected cp of shape "
            f"(heads={heads}, rank of at least 1, n={n}, 2), got {shape_of_pairs(cp)}"
        )
    rank = cp.shape[1]
    for name, tensor, ranks in (("qb", qb, (rank,)), ("qp", qp, (rank, rank))):
        if tensor.shape != (heads, *ranks, n, 2):
            axes = ", ".join(f"rank={r}" for r in ranks)
            raise ValueError(
                f"cauchy: beside cp of shape {tuple(cp.shape)}, expected {name} of shape "
                f"(heads={heads}, {axes}, n={n}, 2), got {shape_of_pairs(tensor)}"
            )
    for name, tensor in (("cp", cp), ("qb", qb), ("qp", qp)):
        check_precision("cauchy", name, tensor)
        check_alike("cauchy", "cb", cb, name, tensor)
