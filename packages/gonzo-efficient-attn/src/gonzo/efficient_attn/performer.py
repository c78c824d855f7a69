"""Performer: softmax's kernel in expectation, from positive random features (FAVOR+).

    φ(x)_i = exp(ω_i·x' - |x'|²/2) / √m,   x' = x / d^¼,   E[φ(q)·φ(k)] = exp(q·k / √d)

with ω_i standard normal, in blocks of d orthogonal ones.

Choromanski et al.: Rethinking Attention with Performers (2020), https://arxiv.org/abs/2009.14794.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonzo.core.autocast import outside_autocast

from .feature_maps import FeatureMap

__all__ = ["Performer"]


class Performer(FeatureMap):
    """FAVOR+ features.

    Positive everywhere; they approach softmax's weights as they grow in number, slowly where
    weights are spiky: the variance of a weight is exponential in |q + k|². Keys beyond |x'|² of
    about 170 lose all their features to underflow in float32.

    Deviation: The authors' code divides by the largest feature of all keys before it goes on, and
    adds 1e-4 to each. The first looks ahead in time, and both change with the length; here a
    query's features are divided by their own largest, which cancels, and nothing is added.

    Args:
        n_head: heads.
        d_key: numbers in a query or key of one head.
        n_random: random features m, shared by all heads.
        orthogonal: draw ω in orthogonal blocks, whose estimate has less variance.
        device: of the random directions.
        dtype: of the random directions.

    Source:
        Choromanski et al. (2020), https://arxiv.org/abs/2009.14794
    """

    projection: Tensor

    def __init__(
        self,
        n_head: int,
        d_key: int,
        *,
        n_random: int = 256,
        orthogonal: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_head, d_key)
        if n_random < 1:
            raise ValueError(f"Performer: expected n_random of at least 1, got {n_random}")
        self.n_random, self.orthogonal = n_random, orthogonal
        directions = torch.empty(n_random, d_key, device=device, dtype=dtype)
        self.register_buffer("projection", directions)
        self.reset_parameters()

    @property
    def d_fused(self) -> int:
        """The number of random features."""
        return self.n_random

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new random directions; a state or a trained layer does not survive that."""
        rows, d = self.projection.shape
        directions = torch.randn(rows, d, dtype=torch.float64)
        if self.orthogonal:
            # Directions of a block are made orthogonal, and keep the lengths of normal vectors.
            blocks = torch.randn(math.ceil(rows / d), d, d, dtype=torch.float64)
            factors = torch.linalg.qr(blocks)
            # LAPACK chooses the signs, and not evenly: left so, a direction has a side it prefers.
            signs = factors.R.diagonal(dim1=1, dim2=2).sign()
            units = (factors.Q * signs[:, None]).mT.flatten(0, 1)[:rows]
            directions = units * directions.norm(dim=1, keepdim=True)
        self.projection.copy_(directions)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`; the exponentials are taken in float32 at least."""
        with outside_autocast(q.device):
            log_q, log_k = self._log_features(q), self._log_features(k)
            phi_q = (log_q - log_q.detach().amax(-1, keepdim=True)).exp()
            return phi_q.to(q.dtype), (log_k.exp() / self.n_random**0.5).to(k.dtype)

    def _log_features(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32)) * self.d_key**-0.25
        half_square = x.square().sum(-1, keepdim=True) / 2
        return x @ self.projection.to(x.dtype).mT - half_square

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{super().extra_repr()}, n_random={self.n_random}, orthogonal={self.orthogonal}"
