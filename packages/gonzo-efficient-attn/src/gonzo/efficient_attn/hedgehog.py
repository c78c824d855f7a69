"""Hedgehog's map: a learned projection of each head and an exponential, so that weights are spiky.

    φ(x) = [softmax(Wx), softmax(-Wx)]

Zhang, Bhatia, Kumbong, Ré: The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax
Mimicry (2024), https://arxiv.org/abs/2402.04347.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gonzo.core.autocast import outside_autocast

from .feature_maps import FeatureMap

__all__ = ["Activation", "HedgehogMap"]

Activation = Literal["softmax", "clamped", "exp"]

_SMALLEST = 1e-12


class HedgehogMap(FeatureMap):
    """Learned features, with W of its own for queries and keys of each head; 2 · d_key features.

    Positive everywhere. Trained to, its weights come close to softmax's in entropy and order
    (`distill_attention`); untrained, W is the identity and they do not.

    ==============  =============================================================================
    ``activation``  φ(x)
    ==============  =============================================================================
    ``softmax``     [softmax(Wx), softmax(-Wx)], as the paper's experiments have it
    ``clamped``     the same, but no feature below 1e-12
    ``exp``         [exp(Wx), exp(-Wx)], the paper's equation. Keys overflow float32 where a number
                    of Wx is beyond 88
    ==============  =============================================================================

    ``softmax`` divides each key's features by their sum, which does not cancel in the normaliser:
    it is another model than ``exp``.

    Args:
        n_head: heads.
        d_key: numbers in a query or key of one head.
        activation: see the table.
        bias: add b to Wx; it begins at zero.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Zhang, Bhatia, Kumbong, Ré (2024), https://arxiv.org/abs/2402.04347, section 4
    """

    def __init__(
        self,
        n_head: int,
        d_key: int,
        *,
        activation: Activation = "softmax",
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_head, d_key)
        if activation not in get_args(Activation):
            expected = ", ".join(map(repr, get_args(Activation)))
            raise ValueError(
                f"HedgehogMap: expected activation to be one of {expected}, got {activation!r}"
            )
        self.activation: Activation = activation
        self.fused = "softmax_pair" if activation == "softmax" else "identity"
        shape = (2, n_head, d_key, d_key)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.empty((2, n_head, 1, d_key), device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def d_fused(self) -> int:
        """Half of the features where the pair is fused."""
        return self.d_key if self.activation == "softmax" else 2 * self.d_key

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set W to the identity and the bias to zero."""
        self.weight.copy_(torch.eye(self.d_key))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`; the exponentials are taken in float32 at least."""
        q, k = self._projected(q, 0), self._projected(k, 1)
        if self.activation == "softmax":
            return q, k
        with outside_autocast(q.device):
            return self._activated(q, cancels=True), self._activated(k, cancels=False)

    def _projected(self, x: Tensor, which: int) -> Tensor:
        x = x @ self.weight[which].mT
        return x if self.bias is None else x + self.bias[which]

    def _activated(self, x: Tensor, cancels: bool) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.activation == "clamped":
            pair = torch.cat([wide.softmax(-1), (-wide).softmax(-1)], -1).clamp(min=_SMALLEST)
            return pair.to(x.dtype)
        pair = torch.cat([wide, -wide], -1)
        if cancels:  # a factor of a query's own divides out, and keeps it from overflowing
            pair = pair - pair.detach().amax(-1, keepdim=True)
        return pair.exp().to(x.dtype)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return (
            f"{super().extra_repr()}, activation={self.activation!r}, bias={self.bias is not None}"
        )
