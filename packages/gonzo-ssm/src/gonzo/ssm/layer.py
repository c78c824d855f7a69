"""The layer around an operator, which brings it to life and mixes its features.

    y = GLU(W dropout(GELU(K * x + D x)) + bias)

With a bottleneck, K * and D act on B x of fewer features; with a gate, W reads U z ∘ GELU(V x)
instead of z = GELU(…), as in Mehta, Gupta, Cutkosky, Neyshabur: Long Range Language Modeling via
Gated State Spaces (2022), https://arxiv.org/abs/2206.13947. (Both options raise in the original.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule
from gonzo.core.nn import Dropout
from gonzo.core.sequence import mask_padding

from .operator import SSMState
from .state_space import SSMOperator


class SSMLayer(SequenceModule):
    """An operator, a skip, a nonlinearity, and a gated linear map that mixes the features.

    Args:
        operator: of d_model/bottleneck features.
        gate: multiply what the operator found by GELU(V x), in gate · d_model features.
        bottleneck: reduce the operator's input to d_model/bottleneck features.
        dropout: probability, before the last map, with one mask for all time steps.
    """

    def __init__(
        self,
        operator: SSMOperator,
        *,
        gate: int | None = None,
        bottleneck: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if gate is not None and gate < 1:
            raise ValueError(
                f"{type(self).__name__}: expected gate of at least 1, or None, got {gate}"
            )
        d_model, like = operator.d_model * bottleneck, operator.log_dt
        found = operator.channels * operator.d_model

        def linear(d_input: int, d_output: int) -> nn.Linear:
            return nn.Linear(d_input, d_output, device=like.device, dtype=like.dtype)

        self.d_model = d_model
        self.operator = operator
        self.d = nn.Parameter(like.new_empty(found))
        self.dropout = Dropout(dropout, tied=True)
        self.narrow = linear(d_model, operator.d_model) if bottleneck > 1 else None
        self.gate = linear(d_model, gate * d_model) if gate else None
        self.widen = linear(found, gate * d_model) if gate else None
        self.output = linear(gate * d_model if gate else found, 2 * d_model)
        nn.init.normal_(self.d)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (self.operator, self.narrow, self.gate, self.widen, self.output):
            if module is not None:
                module.reset_parameters()
        nn.init.normal_(self.d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        u = self._narrowed(x)
        return mask_padding(self._mix(self.operator(u), u, x), lengths)

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SSMState:
        """Return the operator's initial state."""
        return self.operator.init_state(batch, device=device, dtype=dtype)

    def scan(
        self, x: Tensor, state: SSMState, lengths: Tensor | None = None
    ) -> tuple[Tensor, SSMState]:
        """Run a chunk."""
        self.check(x, lengths, state)
        u = self._narrowed(x)
        y, state = self.operator.scan(u, state, lengths)
        return mask_padding(self._mix(y, u, x), lengths), state

    def step(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one time step."""
        self.check_step(x_t, state)
        u_t = self._narrowed(x_t)
        y_t, state = self.operator.step_unchecked(u_t, state)
        return self._mix(y_t, u_t, x_t), state

    def _narrowed(self, x: Tensor) -> Tensor:
        return x if self.narrow is None else self.narrow(x)

    def _mix(self, y: Tensor, u: Tensor, x: Tensor) -> Tensor:
        """What the operator found in u, and the layer's own input x, to the output."""
        z = F.gelu(torch.addcmul(y, self.operator.to_channels(u), self.d))
        if self.gate is not None and self.widen is not None:
            z = self.widen(z) * F.gelu(self.gate(x))
        return F.glu(self.output(self.dropout(z)))


def narrowed(layer: str, d_model: int, bottleneck: int) -> int:
    """The number of features behind a bottleneck, which must divide d_model."""
    if bottleneck < 1 or d_model % bottleneck:
        raise ValueError(
            f"{layer}: expected bottleneck to divide d_model={d_model}, got {bottleneck}"
        )
    return d_model // bottleneck
