"""CartPole: champions that hold on episodes nobody has seen, not one lucky episode.

Claim: NEAT balances a pole with a handful of connections, after a few hundred evaluations.

A genome is selected by one episode of its own. When its return reaches the target, it is judged on
100 held-out episodes, and only a mean of at least the target there ends the run. The numbers below
come from 100 more episodes, on whose seeds nothing was decided.

What is different: the paper balances two poles without velocities, in a simulation of its own;
CartPole-v1 is Gymnasium's, with one pole and all four state variables, 500 steps at most.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import Choice, NEATConfig
from gonzo.neuroevo.gym import GymnasiumProblem
from gonzo.neuroevo.recipes.control import champions

TARGET = 475.0


@dataclass(frozen=True)
class Config:
    """How many runs, and how they are judged."""

    runs: int = 10
    generations: int = 50
    """After which a run counts as failed."""
    population: int = 150
    held_out: int = 100
    """Episodes that the reported numbers come from."""

    def __post_init__(self) -> None:
        require(self.runs >= 1, f"runs of at least 1, got {self.runs}")
        require(self.held_out >= 1, f"held_out of at least 1, got {self.held_out}")


RECIPE = Recipe(
    claim="NEAT balances a pole with a few connections, on episodes nobody has seen",
    paper=Paper(
        "Stanley and Miikkulainen, Evolving Neural Networks through Augmenting Topologies, "
        "Evolutionary Computation 10(2), 2002",
        where="section 4.2 and 4.3, which balance two poles; no number is of this task",
        url="https://doi.org/10.1162/106365602320169811",
    ),
    metrics={
        "worst": Metric("held-out return, the worst run's champion", digits=1),
        "mean": Metric("mean over the runs", digits=1),
        "solved": Metric("runs whose champion reaches 475", unit="%", digits=0),
        "generations": Metric("generations, median", digits=1),
        "evaluations": Metric("evaluations of a genome, median", digits=0),
        "connections": Metric("enabled connections of a champion, mean", digits=1),
    },
    presets={
        "quick": Preset(
            Config(runs=3),
            time="20 s",
            targets=[Target("worst", ">=", 475)],
            reduced=["3 runs instead of 10"],
        ),
        "cpu": Preset(Config(), time="2 min on one core", targets=[Target("worst", ">=", 475)]),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Evolve, and judge."""
    found = champions(
        run,
        GymnasiumProblem("CartPole-v1"),
        NEATConfig(population=config.population, activation=Choice(("tanh",))),
        runs=config.runs,
        generations=config.generations,
        target=TARGET,
        held_out=config.held_out,
        names=("position", "velocity", "angle", "angular velocity"),
    )
    scores = [one.score for one in found]
    return {
        "worst": min(scores),
        "mean": statistics.fmean(scores),
        "solved": 100 * sum(score >= TARGET for score in scores) / len(scores),
        "generations": statistics.median(one.solved or config.generations for one in found),
        "evaluations": statistics.median(one.evaluations for one in found),
        "connections": statistics.fmean(one.genome.size[1] for one in found),
    } | {f"run_{index}": score for index, score in enumerate(scores)}
