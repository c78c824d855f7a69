"""The protocol of feature maps, and the two that are functions of each number: elu + 1 and ReLU.

A map φ turns queries and keys into features whose inner product is the weight of a key,

    a_ts = φ_q(q_t)·φ_k(k_s) / Σ_{r ≤ t} φ_q(q_t)·φ_k(k_r),

so that a sum over keys does for all queries. What a map can represent is decided by it: the weights
of one head form a matrix of rank n_feature at most, and where φ cannot reach zero every key gets
some weight.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from gonzo.core.ops.linear_attention import FeatureMapName, n_feature
from gonzo.core.ops.linear_attention.features import features
from gonzo.core.pretrained import Pretrained

__all__ = ["EluPlusOne", "FeatureMap", "ReLU"]


class FeatureMap(Pretrained):
    """Queries and keys to features, for the heads of one attention layer.

    A map has two parts. ``forward`` is what this package computes, with the map's parameters; then
    comes a map without parameters that `gonzo.core.ops.linear_attention` fuses, named ``fused``, so
    that large features are never stored.

    Args:
        n_head: heads of the layer.
        d_key: numbers in a query or key of one head.

    Attributes:
        fused: the map that follows ``forward``.
        eps: what the layer adds to a sum of weights before it divides by it.
    """

    fused: FeatureMapName = "identity"
    eps: float = 1e-6

    def __init__(self, n_head: int, d_key: int) -> None:
        super().__init__()
        if n_head < 1 or d_key < 1:
            raise ValueError(
                f"{type(self).__name__}: expected n_head and d_key of at least 1, "
                f"got {n_head} and {d_key}"
            )
        self.n_head, self.d_key = n_head, d_key

    @property
    def d_fused(self) -> int:
        """Numbers a head that ``forward`` returns."""
        return self.d_key

    @property
    def n_feature(self) -> int:
        """Features a head, the rows of its state."""
        return n_feature(self.fused, self.d_fused)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, where there are any."""

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Map queries and keys (batch, n_head, time, d_key) to (batch, n_head, time, d_fused)."""
        raise NotImplementedError

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return φ_q(q) and φ_k(k) written out, (batch, n_head, time, n_feature) each."""
        q, k = self(q, k)
        scale = self.d_fused**-0.5  # the op's default
        return features(q, self.fused, scale), features(k, self.fused, scale)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"n_head={self.n_head}, d_key={self.d_key}"


class EluPlusOne(FeatureMap):
    """φ(x) = elu(x) + 1, feature by feature.

    Positive everywhere, so the normaliser is; d_key features. It grows linearly at most: weights
    are smooth and cannot be spiky, and no key's reaches zero.

    Source:
        Katharopoulos, Vyas, Pappas, Fleuret: Transformers are RNNs (2020),
        https://arxiv.org/abs/2006.16236, equation 7
    """

    fused: FeatureMapName = "elu"

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`; the op does it all."""
        return q, k


class ReLU(FeatureMap):
    """φ(x) = max(x, 0), feature by feature.

    Not negative; d_key features. A weight can be exactly zero, and so can all of a query's: its
    output is then zero. No gradient reaches a feature that is off for both.

    Source:
        Kasai et al.: Finetuning Pretrained Transformers into RNNs (2021),
        https://arxiv.org/abs/2103.13076, without the learned projection
    """

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`."""
        return F.relu(q), F.relu(k)
