"""A linear time-invariant model per feature, in its two views.

    x_t = Ā x_{t-1} + B̄ u_t,   y_t = C x_t

As a convolution, y = K * u with K_l = C Ā^l B̄, it trains in parallel; as a recurrence it streams in
O(d_state) a step. Both come from the same parameters, so any length and any split agree.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from gonzo.core import SequenceModule
from gonzo.core.ops.checks import check_finite
from gonzo.core.ops.long_conv import long_conv
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.sequence import mask_padding


class SSMState(NamedTuple):
    """The state of an operator; stale after an optimizer step, as it carries Ā, B̄ and C along."""

    x: Tensor
    """(batch, 2, n, heads): real parts, then imaginary parts."""
    system: Tensor
    """(3 or more, 2, n, heads): the discrete model, as `ssm_scan` takes it."""

    shared = frozenset({"system"})


class TimeInvariantOperator(SequenceModule):
    """The two views of a linear model; a subclass gives its `kernel` and its `system`.

    A model has ``channels · d_model`` heads: with more than one channel, every feature is read out
    several times, and the output is (batch, time, channels · d_model), channel by channel.
    """

    channels: int = 1

    @abstractmethod
    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (channels · d_model, length)."""

    @abstractmethod
    def system(self) -> Tensor:
        """Return the discrete model (3 or more, 2, n, channels · d_model) in float64."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Convolve (batch, time, d_model) with the kernel."""
        self.check(x, lengths)
        u = self.to_channels(x).transpose(1, 2)
        kernel = self.kernel(x.shape[1], dtype=at_least_float32(x.dtype))
        return mask_padding(long_conv(u, kernel).transpose(1, 2).to(x.dtype), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SSMState:
        """Return zeros and the discrete model.

        The state has the parameters' precision, but float32 at least, in which outputs are off by
        some 1e-6, and 1e-5 for S4D's ``"legs"`` after thousands of steps. ``dtype=torch.float64``
        asks for more.
        """
        own = next(self.parameters()).dtype
        system = self.system().to(device=device, dtype=dtype or at_least_float32(own))
        if system.device.type == "cpu" and not torch.compiler.is_compiling():
            check_finite(type(self).__name__, system=system)  # a step has no time to look
        return SSMState(system.new_zeros(batch, *system.shape[1:]), system)

    def scan(
        self, x: Tensor, state: SSMState, lengths: Tensor | None = None
    ) -> tuple[Tensor, SSMState]:
        """Run the recurrence over a chunk."""
        self.check(x, lengths, state)
        y, new = ssm_scan(self.to_channels(x), state.x, state.system, lengths=lengths)
        return y, SSMState(new, state.system)

    def step(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one step of the recurrence, O(d_state) a head."""
        self.check_step(x_t, state)
        return self.step_unchecked(x_t, state)

    def step_unchecked(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one step for a layer that has checked the arguments in its own name."""
        u = self.to_channels(x_t).unsqueeze(1)
        y, new = ssm_scan(u, state.x, state.system)
        return y.squeeze(1), SSMState(new, state.system)

    def to_channels(self, x: Tensor) -> Tensor:
        """(…, d_model) to (…, channels · d_model)."""
        return x if self.channels == 1 else torch.cat([x] * self.channels, -1)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The precision of states and kernels beside activations of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def stack_system(*vectors: Tensor) -> Tensor:
    """(heads, n, 2) pairs to (len(vectors), 2, n, heads)."""
    return torch.stack(vectors).permute(0, 3, 2, 1).contiguous()
