"""The settings of training, and the learning rate that they mean at each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ["TrainConfig", "rates"]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: number of optimizer steps.
        batch: blocks in a step.
        loss: `relative`: mean |o - y| / y; `log`: mean |log o - log y|; `paper`: the sum over the
            batch of |o - y| / (y + 0.001).
        optimizer: `adamw`, or `sgd` with momentum 0.9.
        lr: largest learning rate.
        schedule: `cosine` to zero, or `epoch`: divided by 1.2 after each pass over the data.
        warmup: steps in which the learning rate rises to `lr`.
        weight_decay: of matrices.
        clip: largest norm of the gradient.
        token_dropout: share of the tokens that a step replaces by the unknown token, number 0.
        interval: weight of the interval's loss.
        seed: of the order of the data and of the dropped tokens.
    """

    steps: int = 16_000
    batch: int = 128
    loss: Literal["relative", "log", "paper"] = "relative"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    schedule: Literal["cosine", "epoch"] = "cosine"
    warmup: int = 200
    weight_decay: float = 0.3
    clip: float = 1.0
    token_dropout: float = 0.05
    interval: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("steps", self.steps >= 0, "at least 0"),
            ("batch", self.batch >= 1, "at least 1"),
            ("loss", self.loss in ("relative", "log", "paper"), "relative, log or paper"),
            ("optimizer", self.optimizer in ("adamw", "sgd"), "adamw or sgd"),
            ("lr", self.lr > 0, "above 0"),
            ("schedule", self.schedule in ("cosine", "epoch"), "cosine or epoch"),
            ("warmup", self.warmup >= 0, "at least 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("clip", self.clip > 0, "above 0"),
            ("token_dropout", 0 <= self.token_dropout < 1, "at least 0 and below 1"),
            ("interval", self.interval >= 0, "at least 0"),
        ):
            if not holds:
                raise ValueError(
                    f"TrainConfig: expected {name} {expected}, got {getattr(self, name)!r}"
                )

    @classmethod
    def paper(cls, blocks: int, *, epochs: int = 100, seed: int = 0) -> Self:
        """Return the settings of Ithemal's authors for a number of training blocks."""
        return cls(
            steps=epochs * max(1, blocks // 4),
            batch=4,
            loss="paper",
            optimizer="sgd",
            lr=0.1,
            schedule="epoch",
            warmup=0,
            weight_decay=0.0,
            clip=2.0,
            token_dropout=0.0,
            seed=seed,
        )


def rates(config: TrainConfig, epoch: int) -> Callable[[int], float]:
    """Return what the learning rate is multiplied by at each step, for epochs of so many steps."""

    def rate(step: int) -> float:
        if step < config.warmup:
            return (step + 1) / (config.warmup + 1)
        if config.schedule == "epoch":
            return 1.2 ** -(step // epoch)
        done = (step - config.warmup) / max(1, config.steps - config.warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2

    return rate
