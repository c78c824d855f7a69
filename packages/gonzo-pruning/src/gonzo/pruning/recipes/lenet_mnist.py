"""Winning tickets in LeNet-300-100 on MNIST: small, fast and accurate, if their weights are kept.

Claim: a network that is pruned in rounds, each time trained, its smallest weights pruned and the
others reset to their first values, learns faster than the whole network and becomes as accurate,
down to a few per cent of its weights. The same connections with weights drawn anew learn slowly and
become worse, and so do as many random connections, and a small dense network of as many parameters.

    ticket       rounds of 20 % of every layer, 10 % of the output layer, reset to the first weights
    reinit       the ticket's mask, weights drawn anew
    random mask  the ticket's weights, as many random connections in every layer
    small dense  about as many parameters, proportions as LeNet's, nothing pruned

Networks stop early at the lowest validation loss, determined after the training; the accuracy is
that on the test set at this step. Each seed draws its own network; the split of the training set
into 55,000 and 5,000 images is one for all seeds.

What differs from the paper at the size cpu: trainings of 6,000 steps instead of 50,000, which cuts
off those that would stop later (most of the weights drawn anew), so that how much slower they are
is a lower bound; one draw of each control a seed, at four levels. Pixels are scaled to 0 … 1, of
which the paper says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target, Verdict
from gonzo.lab.atomic import write_json
from gonzo.lab.training import require

from ..controls import Controls
from ..lottery import LotteryRun
from .image_training import ImageTraining, Schedule
from .labelled_images import digits
from .lenet import LeNet, small_lenet
from .ticket_figures import plot_levels, plot_trainings
from .ticket_levels import Levels
from .ticket_search import search_tickets


@dataclass(frozen=True)
class Config:
    """How far is pruned, and where controls are trained."""

    subset: bool = False
    """The 12,000 images that ship with gonzo-lab, instead of all 70,000."""
    validation: int = 5000
    """Images kept from the training set."""
    training: Schedule = Schedule()
    rounds: int = 17
    rate: float = 0.2
    """Of the hidden layers' alive weights, in every round; of the output layer's, half of it."""
    controlled: tuple[int, ...] = (3, 7, 12, 15)
    """Rounds with controls."""
    compared: int = 7
    """The round of the metrics."""
    peak: int = 9
    """The round at which the paper's tickets are at their best."""
    smallest: int = 15
    """The round of the metrics of very small tickets."""
    reinits: int = 1
    """Draws of the re-initialised and of the randomly connected network, each."""
    seeds: int = 5

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"seeds of at least 1, got {self.seeds}")
        require(self.reinits >= 1, f"reinits of at least 1, got {self.reinits}")
        require(self.validation >= 1, f"validation of at least 1, got {self.validation}")
        require(0 < self.rate < 1, f"rate between 0 and 1, got {self.rate}")
        require(
            {self.compared, self.smallest} <= set(self.controlled),
            f"compared and smallest among the rounds with controls, {self.controlled}, got "
            f"{self.compared} and {self.smallest}",
        )
        last = max(*self.controlled, self.peak)
        require(last <= self.rounds, f"rounds of at least {last}, got {self.rounds}")


def _accuracy(text: str) -> Metric:
    return Metric(text, unit="%")


RECIPE = Recipe(
    claim="LeNet has winning tickets: a fifth of its weights, from their own first values, learn "
    "faster and as well",
    paper=Paper(
        "Frankle and Carbin, The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural "
        "Networks, ICLR 2019",
        where="section 2, figures 1, 3 and 4; 50,000 iterations, 5 seeds",
        url="https://arxiv.org/abs/1803.03635",
    ),
    metrics={
        "earlier": Metric(
            "tickets (21.1 % of the weights; quick: 25 %) stop earlier by", "%", 38, 0
        ),
        "reinit_slower": Metric("weights drawn anew stop later than tickets, times", "×", 2.51),
        "above_reinit": Metric("tickets above weights drawn anew", "points", 0.5),
        "peak_gain": Metric("tickets (13.5 %; quick: 25 %) above dense", "points", 0.3),
        "dense_accuracy": _accuracy("dense network, test accuracy at early stop"),
        "ticket_accuracy": _accuracy("tickets (21.1 %; quick: 25 %)"),
        "reinit_accuracy": _accuracy("their masks, weights drawn anew"),
        "random_accuracy": _accuracy("random masks"),
        "small_accuracy": _accuracy("small dense network"),
        "smallest_accuracy": _accuracy("small tickets (3.6 %; quick: 12.6 %)"),
        "smallest_reinit_accuracy": _accuracy("their masks, weights drawn anew"),
        "smallest_small_accuracy": _accuracy("dense network of as many parameters"),
        "steps_to_reinit": Metric(
            "steps of tickets to the lowest loss of weights drawn anew", digits=0
        ),
        "seeds_won": Metric(
            "seeds whose ticket beats weights drawn anew, sooner and better", unit="%", digits=0
        ),
    },
    presets={
        "quick": Preset(
            Config(
                subset=True,
                validation=1000,
                training=Schedule(steps=500, every=25),
                rounds=3,
                rate=0.5,
                controlled=(2, 3),
                compared=2,
                peak=2,
                smallest=3,
                seeds=2,
            ),
            time="25 s",
            targets=[
                Target("above_reinit", ">=", 2),
                Target("peak_gain", ">=", -0.7),
                Target("seeds_won", ">=", 50),
            ],
            reduced=[
                "10,000 training images, 2,000 for the test",
                "500 iterations, too few for most networks to stop early",
                "half of the weights pruned in a round: 25 % instead of 21.1 and 13.5 %, 12.6 % "
                "instead of 3.6 %",
                "2 seeds",
            ],
        ),
        "cpu": Preset(
            Config(),
            time="35 min on one core",
            targets=[
                Target("earlier", ">", 0),
                Target("reinit_slower", ">=", 1.5),
                Target("above_reinit", ">=", 0.25),
                Target("peak_gain", ">=", 0),
                Target("seeds_won", ">=", 80),
            ],
            reduced=["6,000 iterations instead of 50,000", "one draw of each control a seed"],
        ),
        "paper": Preset(
            Config(training=Schedule(steps=50_000), rounds=19, reinits=3),
            time="7 h on one core, estimated",
            targets=[
                Target("earlier", ">=", 20),
                Target("reinit_slower", ">=", 2),
                Target("above_reinit", ">=", 0.4),
                Target("peak_gain", ">=", 0.2),
            ],
            reached=Verdict.REPRODUCED,
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Find tickets and train their controls, for every seed."""
    torch.set_num_threads(1)
    splits = digits(
        subset=config.subset,
        validation=config.validation,
        seed=run.seed,
        data_dir=run.data_dir,
    ).to(run.device)
    train = ImageTraining(splits, config.training, chunk=500)
    controls = Controls(
        reinit=config.reinits,
        random_mask=config.reinits,
        dense=lambda parameters: small_lenet(parameters).to(run.device),
        rounds=config.controlled,
    )

    def lottery(seed: int, directory: Path) -> LotteryRun:
        return LotteryRun(
            lambda: LeNet().to(run.device),
            train,
            directory,
            rounds=config.rounds,
            rates={"output": config.rate / 2, "*": config.rate},
            controls=controls,
            seed=seed,
        )

    levels = Levels(search_tickets(run, config.seeds, lottery))
    write_json(run.directory / "levels.json", {"levels": levels.table()})
    shown = [0, *config.controlled]
    run.figure("levels", plot_levels(levels, shown))
    run.figure("trainings", plot_trainings(levels, shown, config.compared))
    return _metrics(levels, config)


def _metrics(levels: Levels, config: Config) -> dict[str, float]:
    compared, smallest = config.compared, config.smallest
    dense, ticket = (levels.mean("ticket", level, "step") for level in (0, compared))
    reinit = levels.mean("reinit", compared, "step")
    dense_accuracy = levels.mean("ticket", 0, "accuracy")
    ticket_accuracy = levels.mean("ticket", compared, "accuracy")
    reinit_accuracy = levels.mean("reinit", compared, "accuracy")
    return {
        "earlier": 100 * (1 - ticket / dense),
        "reinit_slower": reinit / ticket,
        "above_reinit": ticket_accuracy - reinit_accuracy,
        "peak_gain": levels.mean("ticket", config.peak, "accuracy") - dense_accuracy,
        "dense_accuracy": dense_accuracy,
        "ticket_accuracy": ticket_accuracy,
        "reinit_accuracy": reinit_accuracy,
        "random_accuracy": levels.mean("random-mask", compared, "accuracy"),
        "small_accuracy": levels.mean("dense", compared, "accuracy"),
        "smallest_accuracy": levels.mean("ticket", smallest, "accuracy"),
        "smallest_reinit_accuracy": levels.mean("reinit", smallest, "accuracy"),
        "smallest_small_accuracy": levels.mean("dense", smallest, "accuracy"),
        "steps_to_reinit": levels.steps_to_loss_of("reinit", compared, compared),
        "seeds_won": 100 * levels.share_won("reinit", compared),
    }
