"""The layer around an operator: y = GLU(W dropout(GELU(operator(x) + D x)) + bias)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import SequenceModule
from gonzo.core.nn import Dropout
from gonzo.core.sequence import mask_padding

from .operator import SSMOperator, SSMState


class SSMLayer(SequenceModule):
    """An operator, a skip, a nonlinearity, and a gated linear map that mixes the features."""

    def __init__(self, operator: SSMOperator, *, dropout: float = 0.0) -> None:
        super().__init__()
        d_model, like = operator.d_model, operator.log_dt
        self.d_model = d_model
        self.operator = operator
        self.d = nn.Parameter(torch.empty_like(like))
        self.dropout = Dropout(dropout, tied=True)
        self.output = nn.Linear(d_model, 2 * d_model, device=like.device, dtype=like.dtype)
        nn.init.normal_(self.d)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.operator.reset_parameters()
        nn.init.normal_(self.d)
        self.output.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        return mask_padding(self._mix(self.operator(x), x), lengths)

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
        y, state = self.operator.scan(x, state, lengths)
        return mask_padding(self._mix(y, x), lengths), state

    def step(self, x_t: Tensor, state: SSMState) -> tuple[Tensor, SSMState]:
        """Run one time step."""
        self.check_step(x_t, state)
        y_t, state = self.operator.step_unchecked(x_t, state)
        return self._mix(y_t, x_t), state

    def _mix(self, y: Tensor, x: Tensor) -> Tensor:
        return F.glu(self.output(self.dropout(F.gelu(torch.addcmul(y, x, self.d)))))
