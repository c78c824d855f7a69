"""Dropout for sequences: independent at every step, or one mask for the whole sequence.

Tying the mask over time is variational dropout (Gal and Ghahramani, "A Theoretically Grounded
Application of Dropout in Recurrent Neural Networks", 2016).
"""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Zero features with probability ``p`` while training and scale the others by 1 / (1 - p).

    Args:
        p: The probability of a zero, 0 ≤ p < 1.
        tied: One mask for all time steps of a sequence. ``scan`` draws one for each chunk.
    """

    def __init__(self, p: float, *, tied: bool = False) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: expected a probability 0 <= p < 1, got {p}")
        self.p = p
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, d_model) or (batch, d_model) to the same shape."""
        if not self.training or self.p == 0:
            return x
        if self.tied and x.ndim == 3:
            mask = functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)
            return x * mask
        return functional.dropout(x, self.p)

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return f"{self.p}, tied={self.tied}"
