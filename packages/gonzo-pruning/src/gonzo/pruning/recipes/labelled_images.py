"""Images for training, validation and test, kept as bytes and scaled batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gonzo.lab.data.cifar10 import cifar10
from gonzo.lab.data.mnist import mnist
from gonzo.lab.training import require

__all__ = ["Labelled", "Splits", "digits", "photographs"]


@dataclass(frozen=True)
class Labelled:
    """Images and what they show.

    Attributes:
        images: (n, channels, height, width) uint8.
        labels: (n,) int64.
        mean: Of the pixels of a channel, (channels, 1, 1); taken off.
        deviation: What is left is divided by this, (channels, 1, 1).
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    deviation: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (rows, channels, height, width) float32 and labels (rows,)."""
        rows = rows.to(self.labels.device)
        images = self.images.index_select(0, rows).float().sub_(self.mean).div_(self.deviation)
        return images, self.labels.index_select(0, rows)

    def to(self, device: torch.device) -> Labelled:
        """Return the same on another device."""
        tensors = (self.images, self.labels, self.mean, self.deviation)
        return Labelled(*(tensor.to(device) for tensor in tensors))

    def part(self, rows: Tensor) -> Labelled:
        """Return the rows alone."""
        return Labelled(self.images[rows], self.labels[rows], self.mean, self.deviation)


@dataclass(frozen=True)
class Splits:
    """What is learnt from, what tells when to stop, and what is reported."""

    train: Labelled
    validation: Labelled
    test: Labelled

    def to(self, device: torch.device) -> Splits:
        """Return the same on another device."""
        return Splits(self.train.to(device), self.validation.to(device), self.test.to(device))


def digits(*, subset: bool, validation: int, seed: int, data_dir: Path | None) -> Splits:
    """Return MNIST with pixels from 0 to 1.

    Args:
        subset: The 12,000 images that ship with gonzo-lab, instead of all 70,000.
        validation: Images drawn from the training set for validation.
        seed: Of the draw.
        data_dir: Where to look for the data.
    """
    splits = [mnist(split, subset=subset, data_dir=data_dir) for split in ("train", "test")]
    images = len(splits[0].images)
    require(validation < images, f"validation below the {images} training images, got {validation}")
    scale = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 255.0)
    train, test = (Labelled(s.images[:, None], s.labels.long(), *scale) for s in splits)
    return _drawn(train, test, len(train) - validation, validation, seed)


def photographs(
    *, train: int, validation: int, test: int, seed: int, data_dir: Path | None
) -> Splits:
    """Return images of CIFAR-10, each channel with mean 0 and deviation 1.

    Args:
        train: Images to learn from.
        validation: Images drawn, as they are, from the training set.
        test: Images drawn from the test set.
        seed: Of the draws.
        data_dir: Where to look for the data.
    """
    whole, tested = (cifar10(split, data_dir=data_dir) for split in ("train", "test"))
    # On every fifth image: the moments of 10,000 images are those of all to three digits.
    pixels = whole.images[::5].float().transpose(0, 1).flatten(1)
    scale = [moment[:, None, None] for moment in (pixels.mean(1), pixels.std(1))]
    learnt, reported = (Labelled(s.images, s.labels.long(), *scale) for s in (whole, tested))
    rows = _order(len(reported), seed + 1)[:test]
    return _drawn(learnt, reported.part(rows), train, validation, seed)


def _drawn(whole: Labelled, test: Labelled, train: int, validation: int, seed: int) -> Splits:
    rows = _order(len(whole), seed)
    used = whole.part(rows[validation : validation + train])
    return Splits(used, whole.part(rows[:validation]), test)


def _order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
