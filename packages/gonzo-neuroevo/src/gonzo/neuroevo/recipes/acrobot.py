"""Acrobot: two links swing up from rest, with a torque at the joint between them.

Claim: NEAT solves a task whose reward says nothing until the goal is first reached, by chance in
the first generation, and then shortens the way.

A genome is selected by the mean of three episodes of its own. When that reaches the target, it is
judged on 100 held-out episodes, and only a mean of at least the target there ends the run. The
numbers below come from 100 more episodes, on whose seeds nothing was decided. Gymnasium calls a
mean return of -100 solved; the best that planners find is about -65 from most starts.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import Choice, NEATConfig
from gonzo.neuroevo.gym import GymnasiumProblem
from gonzo.neuroevo.recipes.control import champions

SOLVED = -100.0


@dataclass(frozen=True)
class Config:
    """How many runs, and how they are judged."""

    runs: int = 5
    generations: int = 20
    population: int = 150
    episodes: int = 3
    """That select."""
    target: float = -85.0
    """Mean return that ends a run."""
    held_out: int = 100
    """Episodes that the reported numbers come from."""

    def __post_init__(self) -> None:
        require(self.runs >= 1, f"runs of at least 1, got {self.runs}")
        require(self.held_out >= 1, f"held_out of at least 1, got {self.held_out}")


RECIPE = Recipe(
    claim="NEAT swings up the acrobot from a reward that is silent until the goal",
    paper=Paper(
        "Stanley and Miikkulainen, Evolving Neural Networks through Augmenting Topologies, "
        "Evolutionary Computation 10(2), 2002",
        where="the method; the paper has no such task",
        url="https://doi.org/10.1162/106365602320169811",
    ),
    metrics={
        "worst": Metric("held-out return, the worst run's champion", digits=1),
        "mean": Metric("mean over the runs", digits=1),
        "generations": Metric("generations, median", digits=1),
        "evaluations": Metric("evaluations of a genome, median", digits=0),
        "connections": Metric("enabled connections of a champion, mean", digits=1),
    },
    presets={
        "quick": Preset(
            Config(runs=1, generations=5, population=100, episodes=1, target=-90.0),
            time="25 s",
            targets=[Target("worst", ">=", -120)],
            reduced=["1 run of 5 generations, 100 genomes, 1 episode each"],
        ),
        "cpu": Preset(Config(), time="6 min on one core", targets=[Target("worst", ">=", SOLVED)]),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Evolve, and judge."""
    found = champions(
        run,
        GymnasiumProblem("Acrobot-v1", episodes=config.episodes),
        NEATConfig(population=config.population, activation=Choice(("tanh",))),
        runs=config.runs,
        generations=config.generations,
        target=config.target,
        held_out=config.held_out,
        names=("cos θ₁", "sin θ₁", "cos θ₂", "sin θ₂", "ω₁", "ω₂"),
    )
    scores = [one.score for one in found]
    return {
        "worst": min(scores),
        "mean": statistics.fmean(scores),
        "generations": statistics.median(one.solved or config.generations for one in found),
        "evaluations": statistics.median(one.evaluations for one in found),
        "connections": statistics.fmean(one.genome.size[1] for one in found),
    } | {f"run_{index}": score for index, score in enumerate(scores)}
