"""ReBased's map: a parabola of the normalised inner product, whose place and width are learned.

    φ(q)·φ(k) = (q'·k')² / d_key,   x' = γ ∘ norm(x) + β

Aksenov, Balagansky, Lo Cicero Vaina, Shaposhnikov, Gorbatovski, Gavrilov: Linear Transformers with
Learnable Kernel Functions are Better In-Context Models (2024), https://arxiv.org/abs/2402.10644.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core.ops.linear_attention import FeatureMapName

from .feature_maps import FeatureMap

__all__ = ["Convention", "ReBasedMap"]

Convention = Literal["per_head", "joint"]

_EPS = {"per_head": 1e-5, "joint": 1e-12}


class ReBasedMap(FeatureMap):
    """A quadratic kernel with learned γ and β; 136 features at d_key = 16.

    Not negative, and exactly zero where q' and k' are orthogonal: unlike Based's, a weight can
    vanish. It cannot tell q' from -q'.

    Two public codes disagree, and their weights do not fit one another:

    ==============  ==============================================  ======================  =====
    ``convention``  norm over                                       γ and β                 ε
    ==============  ==============================================  ======================  =====
    ``per_head``    the d_key numbers of a head                     one, for all heads and  1e-5
                                                                    for queries and keys
    ``joint``       all n_head · d_key numbers of a step            one for queries and     1e-12
                                                                    one for keys
    ==============  ==============================================  ======================  =====

    ``per_head`` is that of flash-linear-attention, ``joint`` that of the authors' repository.

    Args:
        n_head: heads.
        d_key: numbers in a query or key of one head, few: features grow with its square.
        convention: which of the two.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Aksenov et al. (2024), https://arxiv.org/abs/2402.10644, section 4
    """

    fused: FeatureMapName = "quadratic"

    def __init__(
        self,
        n_head: int,
        d_key: int = 16,
        *,
        convention: Convention = "per_head",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_head, d_key)
        if convention not in get_args(Convention):
            raise ValueError(
                f"ReBasedMap: expected convention 'per_head' or 'joint', got {convention!r}"
            )
        self.convention: Convention = convention
        self.eps = _EPS[convention]
        shape = (d_key,) if convention == "per_head" else (2, n_head * d_key)
        self.gamma = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set γ to one and β to zero."""
        nn.init.ones_(self.gamma)
        nn.init.zeros_(self.beta)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`."""
        if self.convention == "per_head":
            shape = (self.d_key,)
            q, k = (F.layer_norm(x, shape, self.gamma, self.beta) for x in (q, k))
            return q, k
        return self._joint(q, 0), self._joint(k, 1)

    def _joint(self, x: Tensor, which: int) -> Tensor:
        steps = x.transpose(1, 2)  # (B, T, H, d_key)
        flat = steps.flatten(2)
        normed = F.layer_norm(flat, flat.shape[-1:], self.gamma[which], self.beta[which])
        return normed.view(steps.shape).transpose(1, 2)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{super().extra_repr()}, convention={self.convention!r}"
