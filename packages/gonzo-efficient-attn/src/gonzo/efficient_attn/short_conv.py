"""A gated convolution of a few taps: the shift and compare that linear attention is poor at.

    y_t = (W x_t + b) ∘ (c + Σ_{l < kernel_size} w_l ∘ x_{t - l})

Arora et al.: Zoology: Measuring and Improving Recall in Efficient Language Models (2023),
https://arxiv.org/abs/2312.04927, BaseConv; with three taps in Based (2024).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gonzo.core import SequenceModule
from gonzo.core.sequence import mask_padding

__all__ = ["ShortConv", "ShortConvState"]


class ShortConvState(NamedTuple):
    """The last inputs."""

    inputs: Tensor
    """(batch, kernel_size - 1, d_model), the newest last."""


class ShortConv(SequenceModule):
    """A depthwise causal convolution, times a projection of its input.

    Example::

        layer = ShortConv(256)
        y = layer(torch.randn(2, 1000, 256))  # (2, 1000, 256)

    Args:
        d_model: number of features.
        kernel_size: taps.
        gate: multiply by W x + b; without it, the convolution alone.
        device: of the parameters.
        dtype: of the parameters.

    Source:
        Arora et al. (2023), https://arxiv.org/abs/2312.04927, section 5
    """

    def __init__(
        self,
        d_model: int,
        kernel_size: int = 3,
        *,
        gate: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if d_model < 1 or kernel_size < 1:
            raise ValueError(
                "ShortConv: expected d_model and kernel_size of at least 1, "
                f"got {d_model} and {kernel_size}"
            )
        self.d_model, self.kernel_size = d_model, kernel_size
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.taps = nn.Parameter(torch.empty(kernel_size, d_model, **where))
        self.bias = nn.Parameter(torch.empty(d_model, **where))
        self.gate = nn.Linear(d_model, d_model, **where) if gate else None
        self._reset_own()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, the taps as a convolution's."""
        if self.gate is not None:
            self.gate.reset_parameters()
        self._reset_own()

    def _reset_own(self) -> None:
        bound = 1 / math.sqrt(self.kernel_size)
        nn.init.uniform_(self.taps, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> ShortConvState:
        """Return zeros: what comes before the first step."""
        shape = (batch, self.kernel_size - 1, self.d_model)
        return ShortConvState(self.taps.new_zeros(shape, device=device, dtype=dtype))

    def scan(
        self, x: Tensor, state: ShortConvState, lengths: Tensor | None = None
    ) -> tuple[Tensor, ShortConvState]:
        """Run a chunk (batch, time, d_model); see ``SequenceModule.scan``."""
        self.check(x, lengths, state)
        time, behind = x.shape[1], self.kernel_size - 1
        inputs = torch.cat([state.inputs.to(x.dtype), x], 1)
        y = self.bias.to(x.dtype)
        for lag, tap in enumerate(self.taps.to(x.dtype)):
            y = torch.addcmul(y, tap, inputs[:, behind - lag : behind - lag + time])
        if self.gate is not None:
            y = y * self.gate(x).to(y.dtype)
        if lengths is None:
            last = inputs[:, time:].clone()  # a view would keep the whole chunk in memory
        else:
            place = lengths[:, None] + torch.arange(behind, device=x.device)
            last = inputs.gather(1, place[:, :, None].expand(-1, -1, self.d_model))
        return mask_padding(y, lengths), ShortConvState(last.to(state.inputs.dtype))

    def step(self, x_t: Tensor, state: ShortConvState) -> tuple[Tensor, ShortConvState]:
        """Run one time step (batch, d_model); see ``SequenceModule.step``."""
        self.check_step(x_t, state)
        y, state = self.scan(x_t[:, None], state)
        return y[:, 0], state

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, kernel_size={self.kernel_size}, gate={self.gate is not None}"
