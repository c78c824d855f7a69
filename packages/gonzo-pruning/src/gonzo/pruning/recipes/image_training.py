"""Training of image classifiers with Adam, as in Frankle and Carbin (ICLR 2019), Figure 2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from gonzo.lab.training import require

from ..training import Training
from .labelled_images import Labelled, Splits

__all__ = ["ImageTraining", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps a network is trained."""

    steps: int = 6000
    """Of every training; a network that is rewound to step 0 gets all of them again."""
    batch: int = 60
    learning_rate: float = 1.2e-3
    """Of Adam, constant."""
    every: int = 100
    """Steps between evaluations."""

    def __post_init__(self) -> None:
        require(self.every >= 1, f"every of at least 1, got {self.every}")
        require(
            self.steps >= 1 and self.steps % self.every == 0,
            f"steps that are a multiple of every, {self.every}, got {self.steps}",
        )
        require(self.batch >= 1, f"batch of at least 1, got {self.batch}")
        require(self.learning_rate > 0, f"learning_rate above 0, got {self.learning_rate}")


class ImageTraining:
    """A training function for `LotteryRun`.

    The validation loss and accuracy are recorded at every evaluation, the test accuracy at the
    early stop, where the validation loss is lowest, and at the end.

    Args:
        splits: The images.
        schedule: How they are learnt.
        chunk: Images that are evaluated at a time.
    """

    def __init__(self, splits: Splits, schedule: Schedule, *, chunk: int) -> None:
        self._splits, self._schedule, self._chunk = splits, schedule, chunk

    def __call__(self, model: nn.Module, training: Training) -> None:
        """Train ``model`` in place."""
        schedule, splits = self._schedule, self._splits
        # Fused: one pass over the weights instead of a dozen, half the time of such small steps.
        optimizer = training.optimizer(
            torch.optim.Adam(model.parameters(), lr=schedule.learning_rate, fused=True)
        )
        batches = _Batches(splits.train, schedule.batch, training)
        lowest = math.nan
        best: dict[str, Tensor] = {}
        entry: dict[str, float] = {}
        for step in training.steps(schedule.steps):
            images, labels = batches.at(step)
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if (step + 1) % schedule.every == 0:
                loss, accuracy = self._measure(model, splits.validation)
                training.record(validation_loss=loss, validation_accuracy=accuracy)
                if loss < lowest or math.isnan(lowest):
                    lowest, entry = loss, training.history[-1]
                    best = {name: p.detach().clone() for name, p in model.named_parameters()}
        # The test set is large: it waits until it is known where training should have stopped.
        entry["test_accuracy"] = self._measure(
            lambda images: functional_call(model, best, (images,)), splits.test
        )[1]
        training.record(test_accuracy=self._measure(model, splits.test)[1])

    @torch.no_grad()
    def _measure(self, network: Callable[[Tensor], Tensor], split: Labelled) -> tuple[float, float]:
        """Return the mean loss and the accuracy in per cent."""
        loss, right = 0.0, 0
        for rows in torch.arange(len(split)).split(self._chunk):
            images, labels = split.take(rows)
            logits = network(images)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        return loss / len(split), 100 * right / len(split)


class _Batches:
    """Batches in the training's own order; the end of an epoch that fills none is left out."""

    def __init__(self, split: Labelled, size: int, training: Training) -> None:
        require(size <= len(split), f"batch of at most {len(split)}, the images, got {size}")
        self._split, self._size, self._training = split, size, training
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step, len(self._split) // self._size)
        if epoch != self._epoch:
            self._order = self._training.permutation(len(self._split), epoch)
            self._epoch = epoch
        return self._split.take(self._order[place * self._size : (place + 1) * self._size])
