"""An S4 stack learns MNIST read pixel by pixel.

Claim: state space layers remember over hundreds of steps. An image is shown one pixel at a time,
784 steps in rows, and classified from the mean over time of the last layer. The paper is
cited with 99.63 %.

What is reduced: `quick` averages 2×2 pixels (196 steps) and uses the 10,000 + 2,000 images that
ship with gonzo-lab; `cpu` reads all 784 pixels of all images with a small model for one and a half
epochs; `paper` is a larger model for 200 epochs. Sizes and training are our choice, not the
paper's (AdamW with a cosine, layer norm, mean pooling).
"""

from __future__ import annotations

from dataclasses import dataclass

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target, Verdict
from gonzo.lab.training import Training, accuracy, train

from .pixels import Data, Model, build, load


@dataclass(frozen=True)
class Config:
    """Model, data and training."""

    model: Model = Model()
    data: Data = Data()
    training: Training = Training()


RECIPE = Recipe(
    claim="An S4 stack learns MNIST pixel by pixel",
    paper=Paper(
        "Gu, Goel and Ré, Efficiently Modeling Long Sequences with Structured State Spaces, "
        "ICLR 2022",
        where="sMNIST; the number as it is commonly cited, not checked against the paper's text",
        url="https://arxiv.org/abs/2111.00396",
    ),
    metrics={"accuracy": Metric("test accuracy", unit="%", paper=99.63)},
    presets={
        "quick": Preset(
            Config(
                Model(d_model=32, d_state=32),
                Data(subset=True, pool=2),
                Training(steps=800, warmup=50),
            ),
            time="35 s",
            targets=[Target("accuracy", ">=", 85)],
            reduced=["images averaged to 14×14: 196 steps", "10,000 of 60,000 images, 3 epochs"],
        ),
        "cpu": Preset(
            Config(Model(n_layer=3), training=Training(steps=1800)),
            time="25 min on one core",
            targets=[Target("accuracy", ">=", 97)],
            reduced=["3 layers of 64 features", "one and a half epochs"],
        ),
        "paper": Preset(
            Config(
                Model(d_model=256, n_layer=6, dropout=0.1),
                Data(),
                Training(steps=240_000, weight_decay=0.05, warmup=1000),
            ),
            time="a day on one GPU, estimated",
            targets=[Target("accuracy", ">=", 99.5)],
            reached=Verdict.REPRODUCED,
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train and test."""
    training_set, test_set = load(config.data, run)
    classifier = build(config.model, run)
    train(classifier, training_set, config.training, run, seed=run.seed)
    return {"accuracy": run.once("accuracy", lambda: accuracy(classifier, test_set))}
