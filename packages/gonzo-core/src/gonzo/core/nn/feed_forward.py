"""The position-wise network between two mixers of a stack.

- ``gelu``: y = W₂ gelu(W₁ x + b₁) + b₂ (Vaswani et al., 2017; Hendrycks and Gimpel, 2016).
- ``swiglu``: y = W₂ (silu(W₁ x + b₁) ⊙ (W₃ x + b₃)) + b₂ (Shazeer, "GLU Variants Improve
  Transformer", 2020).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gonzo.core.nn.dropout import Dropout
from gonzo.core.pretrained import Pretrained

__all__ = ["FeedForward"]


class FeedForward(Pretrained):
    """Two linear maps around a nonlinearity, the same at every position.

    Args:
        d_model: The size of input and output.
        d_hidden: The size between the maps.
        activation: ``"gelu"`` or ``"swiglu"``.
        dropout: Probability, on the hidden features.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        *,
        activation: Literal["gelu", "swiglu"] = "gelu",
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("gelu", "swiglu"):
            raise ValueError(
                f"FeedForward: expected activation 'gelu' or 'swiglu', got {activation!r}"
            )
        self.d_model = d_model
        self.activation = activation
        d_in = 2 * d_hidden if activation == "swiglu" else d_hidden
        self.expand = nn.Linear(d_model, d_in, device=device, dtype=dtype)
        self.contract = nn.Linear(d_hidden, d_model, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.expand.reset_parameters()
        self.contract.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d_model) to (..., d_model)."""
        hidden = self.expand(x)
        if self.activation == "swiglu":
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = functional.silu(gate) * hidden
        else:
            hidden = functional.gelu(hidden)
        return self.contract(self.dropout(hidden))

    def extra_repr(self) -> str:
        """Describe the layer in ``repr``."""
        return f"activation={self.activation!r}"
