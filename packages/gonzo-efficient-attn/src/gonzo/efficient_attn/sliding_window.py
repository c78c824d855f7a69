"""Softmax attention over the last few steps: exact and local, where linear attention is neither.

y_t = W_o Σ_{t - window < s ≤ t} softmax_s(q_t · k_s / √d_head) v_s
"""

from __future__ import annotations

import torch

from gonzo.core.nn import CausalAttention

__all__ = ["SlidingWindowAttention"]


class SlidingWindowAttention(CausalAttention):
    """Causal attention of each step to itself and the ``window - 1`` steps before it.

    Time is linear in the length, and the cache holds ``window - 1`` steps. Example::

        layer = SlidingWindowAttention(256, n_head=4, window=64)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: size of input and output, a multiple of ``n_head``.
        n_head: heads.
        window: steps that a step sees, itself included.
        rotary: rotate queries and keys by their positions.
        dropout: probability, on the attention weights.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Child, Gray, Radford, Sutskever: Generating Long Sequences with Sparse Transformers (2019),
        https://arxiv.org/abs/1904.10509; with a window of 64 beside linear attention in Arora et
        al. (2024), https://arxiv.org/abs/2402.18668
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        window: int = 64,
        rotary: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            d_model, n_head, window=window, rotary=rotary, dropout=dropout,
            device=device, dtype=dtype,
        )  # fmt: skip
