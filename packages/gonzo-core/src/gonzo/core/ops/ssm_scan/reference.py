"""The loop over time as the module's docstring writes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def forward(
    u: Tensor, state: Tensor, system: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `gonzo.core.ops.ssm_scan`."""
    _, _, c, _, _ = vectors = _vectors(system)
    x = _numbers(state)  # (B, N, H)
    outputs = []
    for t in range(u.shape[1]):
        valid = _valid(t, lengths, x)
        x = torch.where(valid, _advance(x, u[:, t], *vectors), x)
        outputs.append(torch.where(valid[:, 0], 2 * (c * x).real.sum(1), 0))
    return torch.stack(outputs, 1).to(u.dtype), _parts(x)


def backward(
    grad_y: Tensor,
    grad_state: Tensor,
    u: Tensor,
    state: Tensor,
    system: Tensor,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of u, state and system by the chain rule, from the last step to the first."""
    a, b, c, p, q = vectors = _vectors(system)
    states = [_numbers(state)]
    for t in range(u.shape[1]):
        valid = _valid(t, lengths, states[0])
        states.append(torch.where(valid, _advance(states[-1], u[:, t], *vectors), states[-1]))
    d_x = _numbers(grad_state)
    d_u = torch.zeros(u.shape, dtype=state.dtype, device=u.device)
    d_vectors = torch.zeros(len(system), *a.shape, dtype=a.dtype, device=a.device)
    for t in reversed(range(u.shape[1])):
        valid = _valid(t, lengths, d_x)
        before, after = states[t], states[t + 1]
        d_y = torch.where(valid, 2 * grad_y[:, t, None].to(state.dtype), 0)
        d_new = torch.where(valid, d_x, 0) + d_y * c.conj_physical()
        mixed = [2 * (q_i * before).real.sum(1, keepdim=True) for q_i in q]
        d_mixed = [2 * (d_new * p_i.conj_physical()).real.sum(1, keepdim=True) for p_i in p]
        d_u[:, t] = (d_new * b.conj_physical()).real.sum(1)
        parts = [
            d_new * before.conj_physical(),
            d_new * u[:, t, None],
            d_y * after.conj_physical(),
        ]
        earlier = d_new + d_new * a.conj_physical()
        for mixed_i, d_mixed_i, q_i in zip(mixed, d_mixed, q, strict=True):
            parts += [d_new * mixed_i, d_mixed_i * before.conj_physical()]
            earlier = earlier + d_mixed_i * q_i.conj_physical()
        d_vectors += torch.stack([part.sum(0) for part in parts])
        d_x = torch.where(valid, earlier, d_x)
    return d_u.to(u.dtype), _parts(d_x), _parts(d_vectors)


def _advance(
    x: Tensor,
    u: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    p: tuple[Tensor, ...],
    q: tuple[Tensor, ...],
) -> Tensor:
    new = x + a * x
    for p_i, q_i in zip(p, q, strict=True):
        new = new + p_i * (2 * (q_i * x).real.sum(1, keepdim=True))
    return new + b * u[:, None]


def _vectors(system: Tensor) -> tuple[Any, ...]:
    """a, b, c, (N, H) each, and the tuples of all p and of all q, empty in a diagonal model."""
    a, b, c, *pairs = _numbers(system).unbind(0)
    return a, b, c, tuple(pairs[::2]), tuple(pairs[1::2])


def _numbers(parts: Tensor) -> Tensor:
    return torch.complex(*parts.unbind(1))


def _parts(numbers: Tensor) -> Tensor:
    return torch.stack([numbers.real, numbers.imag], 1)


def _valid(t: int, lengths: Tensor | None, x: Tensor) -> Tensor:
    """Whether step t counts, (B, 1, 1)."""
    if lengths is None:
        return torch.ones(len(x), 1, 1, dtype=torch.bool, device=x.device)
    return (t < lengths)[:, None, None]
