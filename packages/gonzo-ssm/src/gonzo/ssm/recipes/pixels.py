"""MNIST as sequences of pixels, and the classifier of them that the recipes on it share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch.nn import functional as F

from gonzo.core.nn import ResidualStack, SequenceClassifier
from gonzo.lab import Run, mnist
from gonzo.lab.training import Examples, require
from gonzo.ssm import S4


@dataclass(frozen=True)
class Model:
    """The classifier: a stack of S4 layers, a pool over time, linear."""

    d_model: int = 64
    d_state: int = 64
    n_layer: int = 2
    dropout: float = 0.0
    pool: Literal["mean", "last"] = "mean"
    """What is classified: the mean over time, or the last step, which must remember all others."""
    dt_min: float = 1e-3
    """Smallest initial step of S4; memory is about 2/dt time steps."""
    dt_max: float = 1e-1

    def __post_init__(self) -> None:
        require(self.d_model >= 1, f"d_model of at least 1, got {self.d_model}")
        require(
            self.d_state >= 2 and self.d_state % 2 == 0,
            f"an even d_state of at least 2, got {self.d_state}",
        )
        require(self.n_layer >= 1, f"n_layer of at least 1, got {self.n_layer}")
        require(0 <= self.dropout < 1, f"0 <= dropout < 1, got {self.dropout}")
        require(
            0 < self.dt_min <= self.dt_max,
            f"0 < dt_min <= dt_max, got {self.dt_min} and {self.dt_max}",
        )


@dataclass(frozen=True)
class Data:
    """What is read."""

    subset: bool = False
    """Only the 10,000 + 2,000 images that ship with gonzo-lab."""
    pool: int = 1
    """Average blocks of pool × pool pixels: 2 makes 196 steps of 784."""

    def __post_init__(self) -> None:
        require(self.pool >= 1 and 28 % self.pool == 0, f"a pool that divides 28, got {self.pool}")


def load(data: Data, run: Run) -> tuple[Examples, Examples]:
    """Return the training and the test split on the run's device.

    Images are read in rows, top left to bottom right, and standardised over the training set.
    """
    raw = [mnist(split, subset=data.subset, data_dir=run.data_dir) for split in ("train", "test")]
    images = [
        F.avg_pool2d(part.images.unsqueeze(1).float() / 255, data.pool).flatten(1) for part in raw
    ]
    mean, std = images[0].mean(), images[0].std()
    train, test = (
        Examples(((x - mean) / std).unsqueeze(-1).to(run.device), part.labels.long().to(run.device))
        for x, part in zip(images, raw, strict=True)
    )
    return train, test


def build(model: Model, run: Run) -> SequenceClassifier:
    """Return an untrained classifier of pixel sequences on the run's device."""
    layers = [
        S4(model.d_model, model.d_state, dt_min=model.dt_min, dt_max=model.dt_max)
        for _ in range(model.n_layer)
    ]
    stack = ResidualStack(layers, dropout=model.dropout, tied_dropout=True)
    return SequenceClassifier(1, 10, stack, pool=model.pool).to(run.device)
