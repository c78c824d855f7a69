"""The network that tells mapped source words from target words, with its update written by hand.

    z = w3 · leaky(W2 leaky(W1 x + b1) + b2) + b3,     P(x is a mapped source word) = sigmoid(z)

Two hidden layers (Conneau et al. 2018, section 3.1). One step of it is a few matrix products, so
the passes over its millions of weights that automatic differentiation adds (a gradient to clear, to
write, to read again) cost as much as a product does. Here each product for a gradient adds to the
weights at once, as plain SGD allows, and a batch is kept with words as columns, the layout in which
products with 64 of them are fastest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu_

__all__ = ["Discriminator"]

_SLOPE = 0.2
_PARAMETERS = ("w1", "b1", "w2", "b2", "w3", "b3")
_leaky_backward = torch.ops.aten.leaky_relu_backward


class Discriminator:
    """Two hidden layers of leaky ReLUs, trained by SGD on binary cross-entropy.

    Args:
        dim: of the words.
        hidden: units of each hidden layer.
        generator: for the initial weights, which are uniform within 1 / sqrt(fan-in).
        dtype: of the weights.
    """

    def __init__(
        self, dim: int, hidden: int, *, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        def uniform(*shape: int, fan_in: int) -> Tensor:
            bound = 1 / math.sqrt(fan_in)
            drawn = torch.rand(shape, generator=generator, dtype=dtype)
            return drawn.mul_(2 * bound).sub_(bound)

        self.w1 = uniform(hidden, dim, fan_in=dim)
        self.b1 = uniform(hidden, fan_in=dim)
        self.w2 = uniform(hidden, hidden, fan_in=hidden)
        self.b2 = uniform(hidden, fan_in=hidden)
        self.w3 = uniform(hidden, fan_in=hidden)
        self.b3 = uniform(1, fan_in=hidden)

    def logits(self, words: Tensor) -> Tensor:
        """Return (B,) logits of (B, d) words; above 0: more likely a mapped source word."""
        return self._forward(words.T.contiguous())[2]

    def learn(self, words: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Take one step of SGD on (B, d) words and return the logits before it, (B,).

        Args:
            words: of both sides, after the dropout.
            labels: (B,) wanted probabilities of being a mapped source word.
            rate: of learning.
        """
        h1, h2, z = self._forward(words.T.contiguous())
        d = (z.sigmoid() - labels) / len(z)
        d2 = _leaky_backward(torch.outer(self.w3, d), h2, _SLOPE, True)
        h1_rows = h1.T.contiguous()
        # Every product with a weight comes before that weight changes.
        d1_rows = _leaky_backward(d2.T.contiguous() @ self.w2, h1_rows, _SLOPE, True)
        d1 = d1_rows.T.contiguous()
        self.w3.addmv_(h2, d, alpha=-rate)
        self.b3 -= rate * d.sum()
        self.w2.addmm_(d2, h1_rows, alpha=-rate)
        self.b2.sub_(d2.sum(1), alpha=rate)
        self.w1.addmm_(d1, words, alpha=-rate)
        self.b1.sub_(d1.sum(1), alpha=rate)
        return z

    def gradient(self, words: Tensor, wanted: float, count: int) -> Tensor:
        """Return (B, d): the gradient of the cross-entropy against `wanted` by the words.

        Args:
            words: (B, d), without dropout.
            wanted: the probability that the discriminator should give.
            count: what the mean is over, where these are a part of a batch.
        """
        h1, h2, z = self._forward(words.T.contiguous())
        d = (z.sigmoid() - wanted) / count
        d2 = _leaky_backward(torch.outer(self.w3, d), h2, _SLOPE, True)
        d1 = _leaky_backward(d2.T.contiguous() @ self.w2, h1.T, _SLOPE, True)
        return d1 @ self.w1

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the six parameters by name."""
        return {name: getattr(self, name).clone() for name in _PARAMETERS}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take parameters over; raises ValueError where a shape differs."""
        for name in _PARAMETERS:
            own: Tensor = getattr(self, name)
            if state[name].shape != own.shape:
                raise ValueError(
                    f"Discriminator: expected {name} of shape {tuple(own.shape)}, got "
                    f"{tuple(state[name].shape)}"
                )
            own.copy_(state[name])

    def _forward(self, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h1 = leaky_relu_(torch.addmm(self.b1[:, None], self.w1, columns), _SLOPE)
        h2 = leaky_relu_(torch.addmm(self.b2[:, None], self.w2, h1), _SLOPE)
        z = torch.addmv(self.b3.expand(columns.shape[1]), h2.T, self.w3)
        return h1, h2, z
