"""MNIST as sequences of pixels, and the training loop that the recipes on it share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import param_groups
from gonzo.core.nn import ResidualStack, SequenceClassifier
from gonzo.lab import Batches, Run, mnist
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
        _require(self.d_model >= 1, f"d_model of at least 1, got {self.d_model}")
        _require(
            self.d_state >= 2 and self.d_state % 2 == 0,
            f"an even d_state of at least 2, got {self.d_state}",
        )
        _require(self.n_layer >= 1, f"n_layer of at least 1, got {self.n_layer}")
        _require(0 <= self.dropout < 1, f"0 <= dropout < 1, got {self.dropout}")
        _require(
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
        _require(self.pool >= 1 and 28 % self.pool == 0, f"a pool that divides 28, got {self.pool}")


@dataclass(frozen=True)
class Training:
    """AdamW, warm-up and cosine decay to zero."""

    steps: int = 3600
    batch: int = 50
    lr: float = 1e-2
    weight_decay: float = 0.01
    warmup: int = 100

    def __post_init__(self) -> None:
        _require(self.steps >= 0, f"steps of at least 0, got {self.steps}")
        _require(self.batch >= 1, f"batch of at least 1, got {self.batch}")
        _require(self.lr > 0, f"lr above 0, got {self.lr}")
        _require(self.warmup >= 1, f"warmup of at least 1, got {self.warmup}")


class Pixels(NamedTuple):
    """A split of MNIST read in rows, top left to bottom right."""

    x: Tensor
    """(n, pixels, 1), standardised over the training set."""
    label: Tensor
    """(n,) int64."""


def load(data: Data, run: Run) -> tuple[Pixels, Pixels]:
    """Return the training and the test split on the run's device."""
    raw = [mnist(split, subset=data.subset, data_dir=run.data_dir) for split in ("train", "test")]
    images = [
        F.avg_pool2d(part.images.unsqueeze(1).float() / 255, data.pool).flatten(1) for part in raw
    ]
    mean, std = images[0].mean(), images[0].std()
    train, test = (
        Pixels(((x - mean) / std).unsqueeze(-1).to(run.device), part.labels.long().to(run.device))
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


def train(classifier: nn.Module, split: Pixels, training: Training, run: Run, *, seed: int) -> None:
    """Train in place, in a loop of `run` that survives being killed."""
    optimizer = torch.optim.AdamW(
        param_groups(classifier, lr=training.lr, weight_decay=training.weight_decay)
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, total_iters=training.warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, max(1, training.steps - training.warmup)
            ),
        ],
        milestones=[training.warmup],
    )
    batches = Batches(*split, batch_size=training.batch, seed=seed)
    classifier.train()
    for step in run.steps(training.steps, model=classifier, optimizer=optimizer, schedule=schedule):
        x, label = batches.at(step)
        logits = classifier(x)
        loss = F.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.log(step, loss=loss, train_accuracy=(logits.argmax(-1) == label).float().mean() * 100)


@torch.no_grad()
def accuracy(classifier: nn.Module, split: Pixels, batch: int = 250) -> float:
    """Return the share of right answers in per cent."""
    classifier.eval()
    right = sum(
        int((classifier(x).argmax(-1) == label).sum())
        for x, label in zip(split.x.split(batch), split.label.split(batch), strict=True)
    )
    return 100 * right / len(split.label)


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")
