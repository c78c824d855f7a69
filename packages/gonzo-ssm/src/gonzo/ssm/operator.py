"""A linear time-invariant state space model per feature, in its two views.

    x' = A x + B u,  y = C x      discretised:  x_t = Ā x_{t-1} + B̄ u_t,  y_t = C x_t

As a convolution, y = K * u with K_l = C Ā^l B̄, it trains in parallel; as a recurrence it streams in
O(d_state) a step. Both come from the same continuous parameters, so any length and any split agree.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gonzo.core import SequenceModule, TrainRule
from gonzo.core.ops.checks import check_finite
from gonzo.core.ops.long_conv import long_conv
from gonzo.core.ops.ssm_scan import ssm_scan
from gonzo.core.sequence import mask_padding

_SLOW = TrainRule(max_lr=1e-3, weight_decay=0.0)


class SSMState(NamedTuple):
    """The state of an operator; stale after an optimizer step, as it carries Ā, B̄ and C along."""

    x: Tensor
    """(batch, 2, d_state/2, d_model): real parts, then imaginary parts."""
    system: Tensor
    """(3 or 5, 2, d_state/2, d_model): the discrete model, as `ssm_scan` takes it."""

    shared = frozenset({"system"})


class SSMOperator(SequenceModule):
    """What S4 and S4D share: step sizes, the diagonal of A, B, C, and the two views.

    Subclasses give the `kernel` and the `system` of their A.

    Args:
        d_model: number of features; each has a model of its own.
        d_state: real dimensions of each model's state, even: conjugate pairs are stored once.
        dt_min: smallest initial step Δ, in units of the sequence's own step.
        dt_max: largest initial step; a feature's memory is about 2/Δ steps.
    """

    train_rules: ClassVar[dict[str, TrainRule]] = dict.fromkeys(
        ("log_dt", "log_a_real", "a_imag", "b"), _SLOW
    )

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if d_model < 1:
            raise ValueError(f"{name}: expected d_model of at least 1, got {d_model}")
        if d_state < 2 or d_state % 2:
            raise ValueError(
                f"{name}: expected an even d_state of at least 2, got {d_state}; it counts real "
                "dimensions, and conjugate pairs are stored once"
            )
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"{name}: expected 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
        self.d_model, self.d_state = d_model, d_state
        self.dt_min, self.dt_max = dt_min, dt_max
        half = (d_model, d_state // 2)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.log_dt = parameter(d_model)
        self.log_a_real, self.a_imag = parameter(*half), parameter(*half)
        self.b, self.c = parameter(*half, 2), parameter(*half, 2)

    @abstractmethod
    def kernel(self, length: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the convolution kernel K (d_model, length)."""

    @abstractmethod
    def system(self) -> Tensor:
        """Return the discrete model (3 or 5, 2, d_state/2, d_model) in float64."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Convolve (batch, time, d_model) with the kernel."""
        self.check(x, lengths)
        precise = torch.float64 if x.dtype == torch.float64 else torch.float32
        y = long_conv(x.transpose(1, 2), self.kernel(x.shape[1], dtype=precise)).transpose(1, 2)
        return mask_padding(y.to(x.dtype), lengths)

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
        precise = torch.float64 if self.log_dt.dtype == torch.float64 else torch.float32
        system = self.system().to(device=device, dtype=dtype or precise)
        if system.device.type == "cpu" and not torch.compiler.is_compiling():
            check_finite(type(self).__name__, system=system)  # a step has no time to look
        return SSMState(system.new_zeros(batch, *system.shape[1:]), system)

    def scan(
        self, x: Tensor, state: SSMState, lengths: Tensor | None = None
    ) -> tuple[Tensor, SSMState]:
        """Run the recurrence over a chunk."""
        self.check(x, lengths, state)
        y, new = ssm_scan(x, state.x, state.system, lengths=lengths)
        return y, SSMState(new, state.system)

    def step(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one step of the recurrence, O(d_state) a feature."""
        self.check_step(x_t, state)
        return self.step_unchecked(x_t, state)

    def step_unchecked(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one step for a layer that has checked the arguments in its own name."""
        y, new = ssm_scan(x_t.unsqueeze(1), state.x, state.system)
        return y.squeeze(1), SSMState(new, state.system)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.d_model}, d_state={self.d_state}"

    @torch.no_grad()
    def _reset_common(self, a: Tensor, b: Tensor) -> None:
        """Set Δ log-uniform, A and B to a and b (d_state/2, 2) everywhere, C standard normal."""
        nn.init.uniform_(self.log_dt, math.log(self.dt_min), math.log(self.dt_max))
        self.log_a_real.copy_(a[:, 0].neg().log())
        self.a_imag.copy_(a[:, 1])
        self.b.copy_(b)
        nn.init.normal_(self.c, std=0.5**0.5)  # complex variance 1

    def _dt(self) -> Tensor:
        """Δ, (d_model, 1, 1) in float64."""
        return self.log_dt.double().exp()[:, None, None]

    def _a(self) -> Tensor:
        """Λ, (d_model, d_state/2, 2) in float64; its real part is negative by construction."""
        return torch.stack([-self.log_a_real.double().exp(), self.a_imag.double()], -1)


def stack_system(*vectors: Tensor) -> Tensor:
    """(d_model, n, 2) pairs to (len(vectors), 2, n, d_model)."""
    return torch.stack(vectors).permute(0, 3, 2, 1).contiguous()
