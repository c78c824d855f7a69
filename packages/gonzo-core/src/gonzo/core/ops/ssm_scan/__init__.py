"""A diagonal-plus-low-rank state space model run step by step, without storing its states.

    x_t = x_{t-1} + a ∘ x_{t-1} + Σ_i p_i · 2 Re⟨q_i, x_{t-1}⟩ + b u_t        y_t = 2 Re⟨c, x_t⟩

per head and batch element, one of each conjugate pair stored, with a correction of rank 0, 1 or 2
(HiPPO-LegT takes 2). `a` is the transition's diagonal
minus one, so that rounding it to float32 does not detune the slow modes, whose diagonal is near 1.
`linear_scan` cannot serve: it returns every state, here (batch, time, heads, n) numbers of which
only y is wanted. With one time step this is the O(n) decoding step; with more it consumes a chunk
and hands on the state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import register  # noqa: F401  (registers the op)


def ssm_scan(
    u: Tensor,
    state: Tensor,
    system: Tensor,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over a chunk from a given state.

    Complex vectors are stored as their real parts followed by their imaginary parts, with heads
    innermost, (2, n, heads), which is what vector registers want.

    Args:
        u: (batch, time, heads) input, float32 or float64 (half precisions are computed in float32).
        state: (batch, 2, n, heads), float32 or float64. The recurrence runs in this precision.
        system: (3 + 2 rank, 2, n, heads) of the state's dtype: the vectors a, b, c of a diagonal
            model, or a, b, c, p, q, or a, b, c, p_1, q_1, p_2, q_2.
        lengths: (batch,) valid steps of each row, or None for all. Outputs past them are zero and
            the state is the one after the last valid step.
        backend: see `gonzo.core.backend`.

    Returns:
        y (batch, time, heads) of u's dtype, and the state (batch, 2, n, heads) after the chunk.

    Raises:
        ValueError: wrong shapes.
        TypeError: wrong dtypes.

    Source:
        The recurrent view of Gu, Goel, Ré (2021), section 2.3, after Sherman-Morrison, so that one
        step costs O(n) instead of the O(n²) of a dense transition.
    """
    _check(u, state, system, lengths)
    half = u.dtype in (torch.float16, torch.bfloat16)
    wide = u.float() if half else u
    # A decoding step takes some 30 µs, of which torch's machinery for gradients would be a fifth.
    learns = torch.is_grad_enabled() and (
        u.requires_grad or state.requires_grad or system.requires_grad
    )
    op = torch.ops.gonzo.ssm_scan.default if learns else torch.ops.gonzo.ssm_scan_inference.default
    y, final = op(wide, state, system, lengths, backend or "")
    return (y.to(u.dtype) if half else y), final


def _check(u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None) -> None:
    if u.ndim != 3 or not u.is_floating_point():
        raise ValueError(
            f"ssm_scan: expected floating-point u of shape (batch, time, heads), "
            f"got {u.dtype} {tuple(u.shape)}"
        )
    batch, time, heads = u.shape
    if time < 1:
        raise ValueError("ssm_scan: expected at least one time step, got length 0")
    if state.ndim != 4 or (state.shape[0], state.shape[1], state.shape[3]) != (batch, 2, heads):
        raise ValueError(
            f"ssm_scan: expected state of shape (batch={batch}, 2, n, heads={heads}), "
            f"got {tuple(state.shape)}"
        )
    if system.ndim != 4 or system.shape[0] not in (3, 5, 7) or system.shape[1:] != state.shape[1:]:
        raise ValueError(
            "ssm_scan: expected system of shape "
            f"(3, 5 or 7, 2, n={state.shape[2]}, heads={heads}), got {tuple(system.shape)}"
        )
    if state.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"ssm_scan: expected a float32 or float64 state, got {state.dtype}")
    if system.dtype != state.dtype:
        raise TypeError(
            f"ssm_scan: system must have the state's dtype {state.dtype}, got {system.dtype}"
        )
    if lengths is not None and lengths.shape != (batch,):
        raise ValueError(
            f"ssm_scan: expected lengths of shape ({batch},), got {tuple(lengths.shape)}"
        )
