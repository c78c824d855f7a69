"""LeNet-300-100: two hidden layers of 300 and 100 units (LeCun et al., 1998), 266,200 weights.

Initialised as Frankle and Carbin do (ICLR 2019, Figure 2): Glorot normal, biases zero.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

__all__ = ["LeNet", "small_lenet"]


class LeNet(nn.Module):
    """Images of 28 × 28 pixels to the logits of ten digits.

    Args:
        hidden: Units of the hidden layers.
    """

    PIXELS, CLASSES = 28 * 28, 10

    def __init__(self, hidden: tuple[int, int] = (300, 100)) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(self.PIXELS, hidden[0])
        self.hidden2 = nn.Linear(hidden[0], hidden[1])
        self.output = nn.Linear(hidden[1], self.CLASSES)
        for layer in (self.hidden1, self.hidden2, self.output):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, 10) of images (batch, …) of 784 pixels."""
        x = self.hidden1(images.flatten(1)).relu()
        return self.output(self.hidden2(x).relu())


def small_lenet(parameters: int) -> LeNet:
    """Return a network of the same proportions, three to one, with about so many parameters."""
    # With s units in the second hidden layer: 784·3s + 3s·s + 10·s weights, 3s + s + 10 biases.
    linear = 3 * LeNet.PIXELS + LeNet.CLASSES + 4
    constant = max(0, parameters - LeNet.CLASSES)
    second = (math.sqrt(linear**2 + 12 * constant) - linear) / 6
    return LeNet((max(1, round(3 * second)), max(1, round(second))))
