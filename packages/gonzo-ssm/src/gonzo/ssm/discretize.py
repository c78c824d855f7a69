"""From the continuous x' = A x + B u to steps of length Δ, for diagonal A, in real pairs."""

from __future__ import annotations

from torch import Tensor

from gonzo.core.complex_pairs import add_real, exp, expm1, mul, reciprocal


def bilinear(a: Tensor, b: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Ā = (1 + ΔA/2)/(1 - ΔA/2), B̄ = ΔB/(1 - ΔA/2), from a, b (..., n, 2) and dt (..., 1, 1)."""
    half = a * dt / 2
    d = resolvent(half)
    return mul(add_real(half, 1), d), mul(d, b) * dt


def zoh(a: Tensor, b: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-order hold: Ā = exp(ΔA), B̄ = (exp(ΔA) - 1)/A · B, from (..., n, 2) and (..., 1, 1)."""
    w = a * dt
    return exp(w), mul(mul(expm1(w), reciprocal(a)), b)


def resolvent(half: Tensor) -> Tensor:
    """1/(1 - ΔA/2) from ΔA/2."""
    return reciprocal(add_real(-half, 1))
