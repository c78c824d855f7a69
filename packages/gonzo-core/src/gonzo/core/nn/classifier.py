"""One label for a whole sequence: encode, mix, pool over time, decode."""

from typing import Literal

import torch
from torch import Tensor, nn

from gonzo.core.nn.dropout import Dropout
from gonzo.core.pretrained import Pretrained
from gonzo.core.sequence import SequenceModule, check_lengths, check_sequence, last_step

__all__ = ["SequenceClassifier"]


class SequenceClassifier(Pretrained):
    """A linear encoder, a sequence layer or stack, a pool over time and a linear decoder.

    Args:
        d_input: The number of features of each time step.
        n_class: The number of classes.
        stack: Any sequence layer; its ``d_model`` is the width between encoder and decoder.
        pool: ``"mean"`` over the valid steps, or the ``"last"`` valid step.
        dropout: Probability, on the pooled features.
    """

    def __init__(
        self,
        d_input: int,
        n_class: int,
        stack: SequenceModule,
        *,
        pool: Literal["mean", "last"] = "mean",
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if pool not in ("mean", "last"):
            raise ValueError(f"SequenceClassifier: expected pool 'mean' or 'last', got {pool!r}")
        self.d_input = d_input
        self.pool = pool
        self.encoder = nn.Linear(d_input, stack.d_model, device=device, dtype=dtype)
        self.stack = stack
        self.dropout = Dropout(dropout)
        self.decoder = nn.Linear(stack.d_model, n_class, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, those of the stack included."""
        for module in (self.encoder, self.stack, self.decoder):
            module.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits.

        Args:
            x: (batch, time, d_input), at least one time step.
            lengths: (batch,) integers in 0…time for right-padded sequences. A sequence of length 0
                has the logits of an empty pool: the decoder's bias.

        Returns:
            (batch, n_class).

        Raises:
            ValueError: ``x`` or ``lengths`` has the wrong shape.
            TypeError: ``x`` is not floating point, or ``lengths`` is not integer.
        """
        check_sequence("SequenceClassifier", x, self.d_input)
        if lengths is not None:
            check_lengths("SequenceClassifier", lengths, x)
        y = self.stack(self.encoder(x), lengths)  # (B, T, D), zero past each length
        return self.decoder(self.dropout(self._pooled(y, lengths)))

    def _pooled(self, y: Tensor, lengths: Tensor | None) -> Tensor:
        if self.pool == "last":
            return last_step(y, lengths)
        if lengths is None:
            return y.mean(dim=1)
        return y.sum(dim=1) / lengths.clamp(min=1)[:, None].to(y.dtype)

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return f"pool={self.pool!r}"
