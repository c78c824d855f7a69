"""Training, as the recipes share it: AdamW, warm-up and a cosine; and classifiers of sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gonzo.core import param_groups
from gonzo.lab.batches import Batches
from gonzo.lab.run import Run


@dataclass(frozen=True)
class Training:
    """AdamW, warm-up and cosine decay to zero."""

    steps: int = 3600
    batch: int = 50
    lr: float = 1e-2
    weight_decay: float = 0.01
    warmup: int = 100

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps of at least 0, got {self.steps}")
        require(self.batch >= 1, f"batch of at least 1, got {self.batch}")
        require(self.lr > 0, f"lr above 0, got {self.lr}")
        require(self.warmup >= 1, f"warmup of at least 1, got {self.warmup}")

    def optimizer(
        self, model: nn.Module
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return AdamW with the layers' own training rules, and its schedule."""
        optimizer = torch.optim.AdamW(
            param_groups(model, lr=self.lr, weight_decay=self.weight_decay)
        )
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, total_iters=self.warmup),
                torch.optim.lr_scheduler.CosineAnnealingLR(
                    optimizer, max(1, self.steps - self.warmup)
                ),
            ],
            milestones=[self.warmup],
        )
        return optimizer, schedule


class Examples(NamedTuple):
    """Labelled sequences of one length."""

    x: Tensor
    """(n, time, d_input)."""
    label: Tensor
    """(n,) int64."""


def train(
    classifier: nn.Module, split: Examples, training: Training, run: Run, *, seed: int
) -> None:
    """Train a classifier in place."""
    batches = Batches(*split, batch_size=training.batch, seed=seed)

    def measure(step: int) -> dict[str, Tensor]:
        x, label = batches.at(step)
        logits = classifier(x)
        right = (logits.argmax(-1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "train_accuracy": right * 100}

    minimise(classifier, training, run, measure)


def minimise(
    model: nn.Module, training: Training, run: Run, measure: Callable[[int], dict[str, Tensor]]
) -> None:
    """Train in place, in a loop of `run` that survives being killed.

    Args:
        model: what is trained.
        training: how.
        run: the run.
        measure: the numbers to log at a step, of which `loss` is minimised.
    """
    optimizer, schedule = training.optimizer(model)
    model.train()
    for step in run.steps(training.steps, model=model, optimizer=optimizer, schedule=schedule):
        measured = measure(step)
        optimizer.zero_grad()
        measured["loss"].backward()
        optimizer.step()
        schedule.step()
        run.log(step, **measured)


@torch.no_grad()
def accuracy(classifier: nn.Module, split: Examples, batch: int = 250) -> float:
    """Return the share of right answers in per cent."""
    classifier.eval()
    right = sum(
        int((classifier(x).argmax(-1) == label).sum())
        for x, label in zip(split.x.split(batch), split.label.split(batch), strict=True)
    )
    return 100 * right / len(split.label)


def require(holds: bool, expected: str) -> None:
    """Refuse a field of a config, in words that go on after its name."""
    if not holds:
        raise ValueError(f"expected {expected}")
