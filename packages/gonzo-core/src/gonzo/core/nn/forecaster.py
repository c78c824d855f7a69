"""The next values of a series, all at once: encode, mix, decode the last step.

Direct multi-step forecasting: one linear map reads the whole horizon from the last feature vector,
so that no prediction is fed back as if it were an observation.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gonzo.core.nn.dropout import Dropout
from gonzo.core.pretrained import Pretrained
from gonzo.core.sequence import (
    SequenceModule,
    check_lengths,
    check_sequence,
    check_step,
    last_step,
)

__all__ = ["Forecaster"]


class Forecaster(Pretrained):
    """A linear encoder, a sequence layer or stack, and a linear decoder of the last step.

    Where the stack streams, so does the forecaster: ``step`` takes one observation and returns the
    forecast after it, equal to ``forward`` on all observations so far.

    Values are neither normalised nor differenced: scale the series first.

    Args:
        d_input: The number of values observed at each time step.
        horizon: The number of time steps to forecast.
        stack: Any sequence layer; its ``d_model`` is the width between encoder and decoder.
        d_output: The number of values forecast for each time step; by default ``d_input``.
        dropout: Probability, on the features that the decoder reads.
    """

    def __init__(
        self,
        d_input: int,
        horizon: int,
        stack: SequenceModule,
        *,
        d_output: int | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        d_output = d_input if d_output is None else d_output
        for name, size in (("d_input", d_input), ("horizon", horizon), ("d_output", d_output)):
            if size < 1:
                raise ValueError(f"Forecaster: expected {name} >= 1, got {size}")
        self.d_input = d_input
        self.horizon = horizon
        self.d_output = d_output
        self.encoder = nn.Linear(d_input, stack.d_model, device=device, dtype=dtype)
        self.stack = stack
        self.dropout = Dropout(dropout)
        self.decoder = nn.Linear(stack.d_model, horizon * d_output, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the stack included."""
        for module in (self.encoder, self.stack, self.decoder):
            module.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Forecast what follows each series.

        Args:
            x: (batch, time, d_input), at least one time step.
            lengths: (batch,) integers in 0…time for right-padded series. A series of length 0 has
                the forecast of no features: the decoder's bias.

        Returns:
            (batch, horizon, d_output).

        Raises:
            ValueError: ``x`` or ``lengths`` has the wrong shape.
            TypeError: ``x`` is not floating point, or ``lengths`` is not integer.
        """
        self._check(x, lengths)
        return self._decoded(last_step(self.stack(self.encoder(x), lengths), lengths))

    def init_state(
        self,
        batch: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Return the state before the first observation; see ``SequenceModule.init_state``."""
        return self.stack.init_state(batch, device=device, dtype=dtype)

    def scan(self, x: Tensor, state: Any, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Observe a chunk (batch, time, d_input); arguments as those of ``SequenceModule.scan``.

        Returns:
            The forecast after it, (batch, horizon, d_output), and the state. A series with nothing
            in this chunk (of length 0) has the forecast of no features.
        """
        self._check(x, lengths)
        y, state = self.stack.scan(self.encoder(x), state, lengths)
        return self._decoded(last_step(y, lengths)), state

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Observe one time step (batch, d_input).

        Returns:
            The forecast after it, (batch, horizon, d_output), and the state.
        """
        check_step("Forecaster", x_t, self.d_input)
        y_t, state = self.stack.step(self.encoder(x_t), state)
        return self._decoded(y_t), state

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        check_sequence("Forecaster", x, self.d_input)
        if lengths is not None:
            check_lengths("Forecaster", lengths, x)

    def _decoded(self, y: Tensor) -> Tensor:
        return self.decoder(self.dropout(y)).unflatten(-1, (self.horizon, self.d_output))

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return f"horizon={self.horizon}, d_output={self.d_output}"
