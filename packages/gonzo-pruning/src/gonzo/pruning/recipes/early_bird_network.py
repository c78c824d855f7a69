"""The network in which early-bird tickets are drawn, and what training it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gonzo.lab.training import require
from gonzo.pruning.recipes.labelled_images import Labelled

__all__ = ["Size", "accuracy", "network"]


@dataclass(frozen=True)
class Size:
    """Of the images and the layers."""

    side: int = 7
    """Pixels of a side, averaged: 28, 14 or 7."""
    widths: tuple[int, ...] = (16, 32, 32, 64)
    """Channels of the convolutions; after the second, pooling halves the side."""

    def __post_init__(self) -> None:
        require(self.side in (28, 14, 7), f"a side of 28, 14 or 7, got {self.side}")
        require(
            len(self.widths) >= 2 and min(self.widths) >= 1,
            f"widths of at least two layers, got {self.widths}",
        )

    def multiply_adds(self, widths: Sequence[int]) -> int:
        """Return those of one image with so many channels left in each layer."""
        total, narrow = 0, 1
        for place, wide in enumerate(widths):
            side = self.side if place < 2 else self.side // 2
            total += side * side * 9 * narrow * wide
            narrow = wide
        return total + 10 * narrow


def network(size: Size) -> nn.Sequential:
    """Return convolutions with batch normalisation, an average over places and a linear layer."""
    layers: list[nn.Module] = [nn.AvgPool2d(28 // size.side)]
    narrow = 1
    for place, wide in enumerate(size.widths):
        if place == 2:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)]
        layers.append(nn.ReLU())
        narrow = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(narrow, 10))


@torch.no_grad()
def accuracy(model: nn.Module, split: Labelled) -> float:
    """Return the share of right answers in per cent."""
    model.eval()
    right = 0
    for rows in torch.arange(len(split)).split(500):
        images, labels = split.take(rows)
        right += int((model(images).argmax(1) == labels).sum())
    return 100 * right / len(split)
