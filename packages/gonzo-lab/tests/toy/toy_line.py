"""Two small networks learn two lines, with dropout, so that every random state matters."""

import time
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from gonzo.lab import Batches, Metric, Paper, Preset, Recipe, Run, Target, Verdict


@dataclass(frozen=True)
class Model:
    """The network.

    Args:
        width: Hidden units.
    """

    width: int = 8


@dataclass(frozen=True)
class Config:
    """The experiment.

    Args:
        steps: Steps per arm.
        pause: Seconds to sleep per step.
    """

    model: Model = Model()
    steps: int = 40
    pause: float = 0.0


PAPER = Paper("Nobody, On Lines, 1900", where="Table 1", url="https://example.org/lines")

RECIPE = Recipe(
    claim="A small network learns a line",
    paper=PAPER,
    metrics={
        "error": Metric("worst test error", paper=0.0123, digits=4),
        "share": Metric("share of points", unit="%", paper=98.7, digits=1),
    },
    presets={
        "quick": Preset(
            Config(),
            time="1 s",
            targets=[Target("error", "<=", 5.0)],
            reduced=["40 steps instead of 400"],
        ),
        "strict": Preset(Config(steps=2), time="1 s", targets=[Target("error", "<=", 0.0)]),
        "paper": Preset(
            Config(steps=400),
            time="1 min",
            targets=[Target("error", "<=", 1.0)],
            reached=Verdict.REPRODUCED,
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Train both arms and return the larger error."""
    inputs = torch.linspace(-1, 1, 64)[:, None]
    errors = {}
    for arm, slope in (("steep", 3.0), ("flat", 1.0)):
        with run.part(arm):
            errors[arm] = train(config, run, inputs, slope * inputs)
    figure = Figure()
    figure.subplots().plot(list(errors.values()))
    run.figure("errors", figure)
    return {"error": max(errors.values()), "share": 97.5}


def train(config: Config, run: Run, inputs: torch.Tensor, outputs: torch.Tensor) -> float:
    width = config.model.width
    model = torch.nn.Sequential(
        torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(width, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    batches = Batches(inputs, outputs, batch_size=16, seed=run.seed)
    for step in run.steps(config.steps, model=model, optimizer=optimizer, schedule=schedule):
        x, y = batches.at(step)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.log(step, loss=loss, lr=schedule.get_last_lr()[0])
        time.sleep(config.pause)

    def evaluate() -> float:
        model.eval()
        with torch.no_grad():
            return (model(inputs) - outputs).square().mean().item()

    return run.once("error", evaluate)
