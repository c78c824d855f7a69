"""Winning tickets in small convolutional networks on CIFAR-10.

Claim: convolutional networks have winning tickets too; they learn faster than the whole network and
become more accurate, and both are lost when the weights that stayed are drawn anew.

Rates are the paper's, 10 % of a convolution and of the output layer and 20 % of a hidden layer in a
round, or several such rounds in one: three prune 1 - 0.9³ and 1 - 0.8³.

What differs from the paper at the size cpu: Conv-2 alone; 10,000 training images instead of 45,000,
so that networks overfit, and with that stop early, within 1,200 steps instead of thousands; three
rounds at a time, as far as 7 % of the weights; one seed. The images are those that were found: the
authors', or JPEG files of them.

The size quick shows on MNIST's digits that the recipe runs and which way it goes, with a narrow
Conv-2 on images of 28 × 28 grey pixels: no image of CIFAR-10 is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target, Verdict
from gonzo.lab.atomic import write_json
from gonzo.lab.training import require

from ..controls import Controls
from ..lottery import LotteryRun
from .conv_nets import ConvNet
from .image_training import ImageTraining, Schedule
from .labelled_images import Splits, digits, photographs
from .ticket_figures import plot_levels, plot_trainings
from .ticket_levels import Levels
from .ticket_search import search_tickets


@dataclass(frozen=True)
class Config:
    """Which network and images, and how far is pruned."""

    data: Literal["cifar10", "digits"] = "cifar10"
    train_images: int = 10_000
    """To learn from; those of the digits are 9,000."""
    validation: int = 1000
    """Kept from the training set."""
    test_images: int = 5000
    """Of the digits 2,000."""
    blocks: tuple[int, ...] = (64,)
    """Channels of each block of two convolutions; (64,) is Conv-2, (64, 128) is Conv-4."""
    units: int = 256
    """Of the two hidden layers."""
    training: Schedule = Schedule(steps=1200, learning_rate=2e-4, every=50)
    rounds: int = 4
    rounds_at_once: int = 3
    """Of the paper's rounds, pruned in one."""
    controlled: tuple[int, ...] = (2, 4)
    """Rounds with weights drawn anew."""
    compared: int = 4
    """The round of the metrics."""
    seeds: int = 1

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"seeds of at least 1, got {self.seeds}")
        require(self.data in ("cifar10", "digits"), f"data cifar10 or digits, got {self.data!r}")
        for name in ("train_images", "validation", "test_images", "rounds_at_once", "units"):
            require(getattr(self, name) >= 1, f"{name} of at least 1, got {getattr(self, name)}")
        require(
            self.data == "digits" or self.train_images + self.validation <= 50_000,
            f"train_images and validation of 50,000 together, got {self.train_images} and "
            f"{self.validation}",
        )
        require(
            self.compared in self.controlled,
            f"compared among the rounds with controls, {self.controlled}, got {self.compared}",
        )
        last = max(self.controlled)
        require(last <= self.rounds, f"rounds of at least {last}, got {self.rounds}")

    @property
    def rates(self) -> dict[str, str]:
        """The rates of a round, exactly."""
        slow, fast = (str(1 - Fraction(kept) ** self.rounds_at_once) for kept in ("0.9", "0.8"))
        return {"hidden*": fast, "*": slow}

    def network(self) -> ConvNet:
        """Draw a network."""
        channels, side = (3, 32) if self.data == "cifar10" else (1, 28)
        return ConvNet(self.blocks, self.units, channels=channels, side=side)

    def splits(self, run: Run) -> Splits:
        """Load the images."""
        if self.data == "digits":
            return digits(
                subset=True, validation=self.validation, seed=run.seed, data_dir=run.data_dir
            )
        return photographs(
            train=self.train_images,
            validation=self.validation,
            test=self.test_images,
            seed=run.seed,
            data_dir=run.data_dir,
        )


RECIPE = Recipe(
    claim="Conv-2 has winning tickets: a tenth of its weights, from their own first values, learn "
    "faster and better than all",
    paper=Paper(
        "Frankle and Carbin, The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural "
        "Networks, ICLR 2019",
        where="section 3, figure 5, Conv-2: faster at 8.8 %, more accurate at 4.6 % of the weights",
        url="https://arxiv.org/abs/1803.03635",
    ),
    metrics={
        "faster": Metric("tickets reach their lowest validation loss sooner than dense", "×", 3.5),
        "gain": Metric("tickets above the dense network", "points", 3.4),
        "above_reinit": Metric("tickets above weights drawn anew", "points"),
        "reinit_slower": Metric("weights drawn anew stop later than tickets, times", "×"),
        "dense_accuracy": Metric("dense network, test accuracy at early stop", "%"),
        "ticket_accuracy": Metric("tickets", "%"),
        "reinit_accuracy": Metric("their masks, weights drawn anew", "%"),
        "dense_step": Metric("early stop of the dense network, step", digits=0),
        "ticket_step": Metric("of tickets", digits=0),
        "reinit_step": Metric("of weights drawn anew", digits=0),
        "steps_to_dense": Metric("steps of tickets to the dense network's lowest loss", digits=0),
        "steps_to_reinit": Metric("steps of tickets to the lowest of drawn anew", digits=0),
        "remaining": Metric("weights of a ticket", "%", 8.8, 1),
    },
    presets={
        "quick": Preset(
            Config(
                data="digits",
                validation=500,
                blocks=(8,),
                units=64,
                training=Schedule(steps=200, learning_rate=1e-3, every=25),
                rounds=2,
                rounds_at_once=3,
                controlled=(2,),
                compared=2,
                seeds=2,
            ),
            time="25 s",
            targets=[Target("above_reinit", ">=", 1.5), Target("gain", ">=", -2)],
            reduced=[
                "digits of MNIST instead of CIFAR-10, which cannot be shipped",
                "Conv-2 of 8 channels and 64 units",
                "200 iterations, too few to stop early",
                "three rounds at a time, to a quarter of the weights",
                "2 seeds",
            ],
        ),
        "cpu": Preset(
            Config(),
            time="40 min on one core",
            targets=[
                Target("faster", ">", 1),
                Target("gain", ">", 0),
                Target("above_reinit", ">", 0),
            ],
            reduced=[
                "10,000 training images instead of 45,000",
                "1,200 iterations instead of 20,000",
                "three rounds at a time",
                "1 seed",
            ],
        ),
        "paper": Preset(
            Config(
                train_images=45_000,
                validation=5000,
                test_images=10_000,
                training=Schedule(steps=20_000, learning_rate=2e-4),
                rounds=18,
                rounds_at_once=1,
                controlled=(4, 8, 11, 14),
                compared=11,
                seeds=5,
            ),
            time="half a day on one GPU, estimated",
            targets=[
                Target("faster", ">=", 2),
                Target("gain", ">=", 2),
                Target("above_reinit", ">=", 2),
            ],
            reached=Verdict.REPRODUCED,
        ),
        "paper-conv4": Preset(
            Config(
                train_images=45_000,
                validation=5000,
                test_images=10_000,
                blocks=(64, 128),
                training=Schedule(steps=25_000, learning_rate=3e-4),
                rounds=18,
                rounds_at_once=1,
                controlled=(4, 8, 12, 14),
                compared=12,
                seeds=5,
            ),
            time="a day on one GPU, estimated",
            targets=[
                Target("faster", ">=", 2),
                Target("gain", ">=", 2),
                Target("above_reinit", ">=", 2),
            ],
            reached=Verdict.REPRODUCED,
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Find tickets and train their controls, for every seed."""
    torch.set_num_threads(1)
    train = ImageTraining(config.splits(run).to(run.device), config.training, chunk=100)

    def lottery(seed: int, directory: Path) -> LotteryRun:
        return LotteryRun(
            lambda: config.network().to(run.device),
            train,
            directory,
            rounds=config.rounds,
            rates=config.rates,
            controls=Controls(reinit=1, rounds=config.controlled),
            seed=seed,
        )

    levels = Levels(search_tickets(run, config.seeds, lottery))
    write_json(run.directory / "levels.json", {"levels": levels.table()})
    shown = sorted({0, *config.controlled, config.rounds})
    run.figure("levels", plot_levels(levels, shown))
    run.figure("trainings", plot_trainings(levels, shown, config.compared))
    return _metrics(levels, config.compared)


def _metrics(levels: Levels, compared: int) -> dict[str, float]:
    found = {
        f"{name}_{what}": levels.mean(kind, level, what)
        for name, kind, level in (
            ("dense", "ticket", 0),
            ("ticket", "ticket", compared),
            ("reinit", "reinit", compared),
        )
        for what in ("accuracy", "step")
    }
    return {
        "faster": found["dense_step"] / found["ticket_step"],
        "gain": found["ticket_accuracy"] - found["dense_accuracy"],
        "above_reinit": found["ticket_accuracy"] - found["reinit_accuracy"],
        "reinit_slower": found["reinit_step"] / found["ticket_step"],
        **found,
        "steps_to_dense": levels.steps_to_loss_of("ticket", 0, ticket=compared),
        "steps_to_reinit": levels.steps_to_loss_of("reinit", compared, ticket=compared),
        "remaining": levels.remaining(compared),
    }
