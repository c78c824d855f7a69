"""The circle on which the generating function is sampled, and the way back to the kernel."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.core.fft_sizes import fast_size


class Circle(NamedTuple):
    """Nodes ζ_k = r exp(-2πik/n) for 0 <= k <= n/2, and what the ops need of them, in float64."""

    nodes: int
    """n: the length of the inverse FFT."""
    g: Tensor
    """(n/2+1,) complex: 2 (1-ζ)/(1+ζ)."""
    scale: Tensor
    """(n/2+1,) complex: 2/(1+ζ)."""
    undamp: Tensor
    """(length,): r^-l."""


def circle(length: int, dtype: torch.dtype, device: torch.device) -> Circle:
    """Choose nodes and radius so that aliasing and amplified rounding are equally small."""
    oversampling = 4 if dtype == torch.float64 else 1
    nodes = fast_size(max(2, oversampling * length))
    # alias r^n; rounding eps · r^-length: equal at r^n = eps^(oversampling / (oversampling + 1)).
    log_r = math.log(torch.finfo(torch.float64).eps) * oversampling / (oversampling + 1) / nodes
    k = torch.arange(nodes // 2 + 1, dtype=torch.float64, device=device)
    zeta = torch.polar(torch.full_like(k, math.exp(log_r)), -2 * math.pi / nodes * k)
    lag = torch.arange(length, dtype=torch.float64, device=device)
    return Circle(nodes, 2 * (1 - zeta) / (1 + zeta), 2 / (1 + zeta), torch.exp(-log_r * lag))


def to_kernel(spectrum: Tensor, on: Circle, dtype: torch.dtype) -> Tensor:
    """(H, n/2+1) complex K̂ to (H, length) real K."""
    damped = torch.fft.irfft(spectrum, n=on.nodes)
    return (damped[:, : len(on.undamp)] * on.undamp).to(dtype)


def to_spectrum_gradient(grad: Tensor, on: Circle) -> Tensor:
    """The adjoint of `to_kernel`: (H, length) real to (H, n/2+1) complex dRe + i dIm."""
    spectrum = torch.fft.rfft(grad * on.undamp, n=on.nodes) / on.nodes
    # Every node but the first and (for even n) the last stands for itself and its conjugate.
    spectrum[:, 1 : (on.nodes + 1) // 2] *= 2
    return spectrum
