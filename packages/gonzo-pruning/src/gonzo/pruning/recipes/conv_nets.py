"""Conv-2 and Conv-4: VGG's blocks scaled down, as Frankle and Carbin train them on CIFAR-10.

Blocks of two 3 × 3 convolutions and a 2 × 2 max pooling, of 64 and 128 channels, then layers of
256, 256 and 10 units (ICLR 2019, Figure 2); Glorot normal, biases zero.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Images (batch, channels, side, side) to logits (batch, 10).

    Args:
        blocks: Channels of each block: (64,) is Conv-2, (64, 128) is Conv-4.
        units: Of the two hidden layers.
        channels: Of the images.
        side: Pixels of a side of the images, a multiple of two for each block.

    Raises:
        ValueError: ``side`` cannot be halved so often.
    """

    def __init__(
        self, blocks: tuple[int, ...], units: int = 256, *, channels: int = 3, side: int = 32
    ) -> None:
        super().__init__()
        if side % 2 ** len(blocks):
            raise ValueError(
                f"ConvNet: {len(blocks)} blocks halve the side so often, expected a multiple of "
                f"{2 ** len(blocks)}, got {side}"
            )
        layers: list[tuple[str, nn.Module]] = []
        for number, width in enumerate(blocks):
            for place, narrow in enumerate((channels, width)):
                convolution = nn.Conv2d(narrow, width, 3, padding=1)
                layers += [
                    (f"conv{number}{place}", convolution),
                    (f"relu{number}{place}", nn.ReLU()),
                ]
            layers += [(f"pool{number}", nn.MaxPool2d(2))]
            channels = width
        self.convolutions = nn.Sequential(OrderedDict(layers))
        side //= 2 ** len(blocks)
        self.hidden1 = nn.Linear(channels * side * side, units)
        self.hidden2 = nn.Linear(units, units)
        self.output = nn.Linear(units, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        # Channels last: a fifth less time for a step on a CPU.
        self.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, 10)."""
        x = self.convolutions(images.contiguous(memory_format=torch.channels_last))
        x = self.hidden1(x.flatten(1)).relu()
        return self.output(self.hidden2(x).relu())
