"""Based's map: the exponential's Taylor series to the second order.

    φ(q)·φ(k) = 1 + s + s²/2,   s = q·k / √d_key

Arora et al.: Simple linear attention language models balance the recall-throughput tradeoff (2024),
https://arxiv.org/abs/2402.18668.
"""

from __future__ import annotations

from torch import Tensor

from gonzo.core.ops.linear_attention import FeatureMapName

from .feature_maps import FeatureMap

__all__ = ["Taylor"]


class Taylor(FeatureMap):
    """The second-order Taylor expansion of exp(q·k / √d_key); 153 features at d_key = 16.

    Each product of two features is kept once, where written out twice they were 273. Every weight
    is ½ at least, before it is normalised: no key can be ignored. It falls for s < -1, where the
    exponential rises, so a key opposite to the query weighs more than one across it.

    Args:
        n_head: heads.
        d_key: numbers in a query or key of one head, few: features grow with its square.

    Source:
        Arora et al. (2024), https://arxiv.org/abs/2402.18668, section 4.1
    """

    fused: FeatureMapName = "taylor"

    def __init__(self, n_head: int, d_key: int = 16) -> None:
        super().__init__(n_head, d_key)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`."""
        return q, k
