"""Two operators or layers, one reading forwards and one backwards.

    y_t = forward(x)_t + backward(reversed x)_t

Deviation: the original's reversed kernel starts at lag -1 and takes lag 0 from the forward one,
which its comments call an oversight. Here both directions see the present step.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from gonzo.core import SequenceModule


class Bidirectional(SequenceModule):
    """Add to a causal layer its mirror image, a copy with parameters of its own.

    It has ``forward`` only: the mirror image needs the end of the sequence first. With `lengths`,
    it starts at each sequence's own end.

    Args:
        layer: the causal layer; the mirror image is a copy with its parameters drawn anew.
    """

    def __init__(self, layer: SequenceModule) -> None:
        super().__init__()
        self.d_model = layer.d_model
        self.layer = layer
        self.mirror = copy.deepcopy(layer)
        self.mirror.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.layer.reset_parameters()
        self.mirror.reset_parameters()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (batch, time, d_model) to the same shape."""
        self.check(x, lengths)
        backwards = reverse(self.mirror(reverse(x, lengths), lengths), lengths)
        return self.layer(x, lengths) + backwards


def reverse(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Reverse the valid steps of x (batch, time, d_model); padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    time = torch.arange(x.shape[1], device=x.device)
    index = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
    return x.gather(1, index[..., None].expand_as(x))
