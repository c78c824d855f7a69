"""Based's three parts in one layer: a short convolution, then the whole past and the near past.

    c = x + ShortConv(x),   y = LinearAttention(c) + SlidingWindowAttention(c)

Arora, Eyuboglu, Zhang, Timalsina, Alberti, Zinsley, Zou, Rudra, Ré: Simple linear attention
language models balance the recall-throughput tradeoff (2024), https://arxiv.org/abs/2402.18668.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gonzo.core import SequenceModule
from gonzo.core.nn.attention import AttentionState
from gonzo.core.sequence import mask_padding

from .feature_maps import FeatureMap
from .linear_attention import FeatureMapKind, LinearAttention, LinearAttentionState
from .short_conv import ShortConv, ShortConvState
from .sliding_window import SlidingWindowAttention

__all__ = ["BasedBlock", "BasedState"]


class BasedState(NamedTuple):
    """The states of the three parts."""

    conv: ShortConvState
    linear: LinearAttentionState
    window: AttentionState


class BasedBlock(SequenceModule):
    """A short convolution, linear attention to all of the past and softmax attention to the near.

    Deviation: Based has layers of convolutions, of linear and of sliding-window attention one after
    another; here every layer has all three, so that models of few layers have them too.

    Args:
        d_model: size of input and output, a multiple of ``n_head``.
        n_head: heads, of either attention.
        feature_map: of the linear attention; ``"rebased"`` makes ReBased of it.
        d_key: see `LinearAttention`.
        window: steps that the softmax attention sees.
        kernel_size: taps of the convolution.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Arora et al. (2024), https://arxiv.org/abs/2402.18668, section 4
    """

    def __init__(
        self,
        d_model: int,
        n_head: int,
        *,
        feature_map: FeatureMapKind | FeatureMap = "taylor",
        d_key: int | None = None,
        window: int = 64,
        kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.linear = LinearAttention(
            d_model, n_head, feature_map=feature_map, d_key=d_key, **where
        )
        self.conv = ShortConv(d_model, kernel_size, **where)
        self.window = SlidingWindowAttention(d_model, n_head, window=window, **where)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for part in (self.conv, self.linear, self.window):
            part.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape; see ``SequenceModule.forward``."""
        self.check(x, lengths)
        c = x + self.conv(x)
        return mask_padding(self.linear(c) + self.window(c), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> BasedState:
        """Return the states before the first step."""
        return BasedState(
            self.conv.init_state(batch, device=device, dtype=dtype),
            self.linear.init_state(batch, device=device, dtype=dtype),
            self.window.init_state(batch, device=device, dtype=dtype),
        )

    def scan(
        self, x: Tensor, state: BasedState, lengths: Tensor | None = None
    ) -> tuple[Tensor, BasedState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        y, conv = self.conv.scan(x, state.conv, lengths)
        c = x + y
        far, linear = self.linear.scan(c, state.linear, lengths)
        near, window = self.window.scan(c, state.window, lengths)
        return far + near, BasedState(conv, linear, window)

    def step(self, x_t: Tensor, state: BasedState) -> tuple[Tensor, BasedState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        y, conv = self.conv.step(x_t, state.conv)
        c = x_t + y
        far, linear = self.linear.step(c, state.linear)
        near, window = self.window.step(c, state.window)
        return far + near, BasedState(conv, linear, window)
