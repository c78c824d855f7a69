"""K_l = 2 Re Σ_n c_n z_n^l as it is written, and its gradient. O(H·N·L) memory."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(c: Tensor, z: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """See `gonzo.core.ops.vandermonde`."""
    powers = _powers(z, length)  # (H, N, L)
    c = torch.view_as_complex(c.double().contiguous())
    return (2 * torch.einsum("hn,hnl->hl", c, powers).real).to(dtype)


def backward(grad: Tensor, c: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of c and z, (H, N, 2) each, from that of K, (H, L)."""
    length = grad.shape[-1]
    powers = _powers(z, length)
    c_ = torch.view_as_complex(c.double().contiguous())
    g = grad.to(powers.dtype)
    dc = 2 * torch.einsum("hl,hnl->hn", g, powers).conj_physical()
    lag = torch.arange(1, length, device=z.device, dtype=torch.float64)
    slope = torch.einsum("hl,hnl->hn", g[:, 1:] * lag, powers[..., :-1])  # Σ l g_l z^{l-1}
    dz = 2 * (c_ * slope).conj_physical()
    return torch.view_as_real(dc).to(c.dtype), torch.view_as_real(dz).to(z.dtype)


def _powers(z: Tensor, length: int) -> Tensor:
    z = torch.view_as_complex(z.double().contiguous())
    ones = torch.ones_like(z).unsqueeze(-1)
    repeated = z.unsqueeze(-1).expand(*z.shape, length - 1)
    return torch.cat([ones, repeated.cumprod(-1)], dim=-1)
