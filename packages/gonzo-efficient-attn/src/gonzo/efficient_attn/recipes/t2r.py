"""The map that converted softmax models had before Hedgehog: a learned projection and a ReLU.

    φ(x) = max(Wx + b, 0)

Kasai, Peng, Zhang, Yogatama, Ilharco, Pappas, Mao, Chen, Smith: Finetuning Pretrained Transformers
into RNNs (2021), https://arxiv.org/abs/2103.13076. Here W begins as the identity, as Hedgehog's
does, and there are as many features as a query has numbers; nothing is distilled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.efficient_attn.feature_maps import FeatureMap


class T2RMap(FeatureMap):
    """See the module; queries and keys of each head have a W and a b of their own."""

    def __init__(self, n_head: int, d_key: int) -> None:
        super().__init__(n_head, d_key)
        self.weight = nn.Parameter(torch.empty(2, n_head, d_key, d_key))
        self.bias = nn.Parameter(torch.empty(2, n_head, 1, d_key))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set W to the identity and b to zero."""
        self.weight.copy_(torch.eye(self.d_key))
        self.bias.zero_()

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """See `FeatureMap.forward`."""
        q, k = (x @ self.weight[i].mT + self.bias[i] for i, x in enumerate((q, k)))
        return F.relu(q), F.relu(k)
