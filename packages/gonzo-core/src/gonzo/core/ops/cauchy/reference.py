"""The generating function as the module's docstring writes it. O(H·N·L) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .circle import circle, to_kernel, to_spectrum_gradient


def forward(
    cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor, length: int, dtype: torch.dtype
) -> Tensor:
    """See `gonzo.core.ops.cauchy`."""
    on = circle(length, dtype, w.device)
    cb, cp, qb, qp, w = (_complex(t).unsqueeze(-1) for t in (cb, cp, qb, qp, w))  # (H, N, 1)

    def cauchy_sum(v: Tensor) -> Tensor:  # (H, n/2+1)
        return (v / (on.g - w) + v.conj_physical() / (on.g - w.conj_physical())).sum(1)

    corrected = cauchy_sum(cb) - cauchy_sum(cp) * cauchy_sum(qb) / (1 + cauchy_sum(qp))
    return to_kernel(on.scale * corrected, on, dtype)


def backward(
    grad: Tensor, cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the five inputs, by the chain rule; a gradient is dRe + i dIm."""
    on = circle(grad.shape[1], grad.dtype, w.device)
    dtype = w.dtype
    v = torch.stack([_complex(t) for t in (cb, cp, qb, qp)]).unsqueeze(-1)  # (4, H, N, 1)
    w = _complex(w).unsqueeze(-1)
    pole, mirror = 1 / (on.g - w), 1 / (on.g - w.conj_physical())  # (H, N, n/2+1)
    _, k_cp, k_qb, k_qp = (v * pole + v.conj_physical() * mirror).sum(2)
    d = 1 / (1 + k_qp)
    top = to_spectrum_gradient(grad, on) * on.scale.conj_physical()
    partial = torch.stack([torch.ones_like(d), -k_qb * d, -k_cp * d, k_cp * k_qb * d * d])
    sums = (top * partial.conj_physical()).unsqueeze(
        2
    )  # gradients of the four sums, (4, H, 1, n/2+1)
    dv = (sums * pole.conj_physical() + sums.conj_physical() * mirror).sum(-1)
    dw = (
        sums * (v * pole**2).conj_physical() + sums.conj_physical() * v.conj_physical() * mirror**2
    ).sum((0, -1))
    return *(_pairs(t, dtype) for t in dv), _pairs(dw, dtype)


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.double().contiguous())


def _pairs(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.view_as_real(numbers.resolve_conj()).to(dtype, copy=True)  # outputs may not alias
