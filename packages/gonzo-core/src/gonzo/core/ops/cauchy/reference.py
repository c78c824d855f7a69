"""The generating function as the module's docstring writes it. O(H·N·L) memory.

The sums are kept as one matrix [[k_CB, k_CP], [k_QB, k_QP]], and so are their numerators v.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .circle import circle, to_kernel, to_spectrum_gradient


def forward(
    cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor, length: int, dtype: torch.dtype
) -> Tensor:
    """See `gonzo.core.ops.cauchy`."""
    on = circle(length, dtype, w.device)
    pole, mirror = _poles(on.g, w)
    k = _cauchy_sums(_numerators(cb, cp, qb, qp), pole, mirror)
    _, y = _woodbury(k)
    corrected = torch.einsum("hjm,hjm->hm", k[:, 0], y)  # k_CB - k_CP (1 + k_QP)^-1 k_QB
    return to_kernel(on.scale * corrected, on, dtype)


def backward(
    grad: Tensor, cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor, w: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of the five inputs, by the chain rule; a gradient is dRe + i dIm."""
    on = circle(grad.shape[1], grad.dtype, w.device)
    v = _numerators(cb, cp, qb, qp)
    pole, mirror = _poles(on.g, w)
    z, y = _woodbury(_cauchy_sums(v, pole, mirror))
    partial = z.unsqueeze(2) * y.unsqueeze(1)  # of the bracket, by each sum
    top = to_spectrum_gradient(grad, on) * on.scale.conj_physical()
    sums = top[:, None, None] * partial.conj_physical()  # gradients, (H, 1+r, 1+r, n/2+1)
    pole, conj_v, conj_sums = pole.conj_physical(), v.conj_physical(), sums.conj_physical()
    dv = torch.einsum("hijm,hnm->hijn", sums, pole)
    dv += torch.einsum("hijm,hnm->hijn", conj_sums, mirror)
    dw = (torch.einsum("hijn,hijm->hnm", conj_v, sums) * pole**2).sum(-1)
    dw += (torch.einsum("hijn,hijm->hnm", conj_v, conj_sums) * mirror**2).sum(-1)
    parts = (dv[:, 0, 0], dv[:, 0, 1:], dv[:, 1:, 0], dv[:, 1:, 1:])
    shaped = [part.reshape(t.shape[:-1]) for part, t in zip(parts, (cb, cp, qb, qp), strict=True)]
    return tuple(_pairs(t, w.dtype) for t in (*shaped, dw))


def _numerators(cb: Tensor, cp: Tensor, qb: Tensor, qp: Tensor) -> Tensor:
    """Those of all sums, (H, 1+r, 1+r, N)."""
    cb, cp, qb, qp = (_complex(t) for t in (cb, cp, qb, qp))
    if cp.ndim == 2:  # rank one
        cp, qb, qp = cp[:, None], qb[:, None], qp[:, None, None]
    first_row = torch.cat([cb[:, None], cp], 1)
    return torch.cat([first_row[:, None], torch.cat([qb[:, :, None], qp], 2)], 1)


def _poles(g: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """1/(g-λ) and 1/(g-conj λ), (H, N, n/2+1)."""
    w = _complex(w).unsqueeze(-1)
    return 1 / (g - w), 1 / (g - w.conj_physical())


def _cauchy_sums(v: Tensor, pole: Tensor, mirror: Tensor) -> Tensor:
    """(H, 1+r, 1+r, n/2+1)."""
    return torch.einsum("hijn,hnm->hijm", v, pole) + torch.einsum(
        "hijn,hnm->hijm", v.conj_physical(), mirror
    )


def _woodbury(k: Tensor) -> tuple[Tensor, Tensor]:
    """[1, -k_CP (1 + k_QP)^-1] and [1, -(1 + k_QP)^-1 k_QB], (H, 1+r, n/2+1)."""
    k_cp, k_qb, k_qp = k[:, 0, 1:], k[:, 1:, 0], k[:, 1:, 1:]
    eye = torch.eye(k_qp.shape[1], dtype=k.dtype, device=k.device)
    inverse = torch.linalg.inv(eye + k_qp.permute(0, 3, 1, 2))  # (H, n/2+1, r, r)
    z = torch.einsum("him,hmij->hjm", k_cp, inverse)
    y = torch.einsum("hmij,hjm->him", inverse, k_qb)
    one = torch.ones_like(k[:, 0, :1])
    return torch.cat([one, -z], 1), torch.cat([one, -y], 1)


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.double().contiguous())


def _pairs(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.view_as_real(numbers.resolve_conj()).to(dtype, copy=True)  # outputs may not alias
