"""XOR: structure appears when it is needed, and no more of it than is needed.

Claim: NEAT, started without hidden nodes, finds networks for XOR, which has no solution without
one, in every run and within a few dozen generations; the solutions stay small.

Two rule sets run side by side: the paper's (`NEATConfig.canonical`) and neat-python's, with which
most people know NEAT. Every run of 150 genomes has a seed of its own.

What differs from the paper: solved means a sum of squared errors of at most 0.1, which is stricter
than the right side of 0.5 everywhere; and biases belong to nodes. Both are said where the rules
are, in `gonzo.neuroevo.supervised` and `gonzo.neuroevo.config`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import NEATConfig
from gonzo.neuroevo.export.picture import to_svg
from gonzo.neuroevo.genome import Genome
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.plots import plot_species
from gonzo.neuroevo.recipes.trial import Trial
from gonzo.neuroevo.supervised import xor

SOLVED = 3.9


@dataclass(frozen=True)
class Config:
    """How many runs, and how long."""

    runs: int = 100
    """Of each rule set."""
    generations: int = 300
    """After which a run counts as failed."""
    population: int = 150

    def __post_init__(self) -> None:
        require(self.runs >= 1, f"runs of at least 1, got {self.runs}")
        require(self.generations >= 1, f"generations of at least 1, got {self.generations}")


RECIPE = Recipe(
    claim="NEAT finds small networks for XOR, starting without hidden nodes",
    paper=Paper(
        "Stanley and Miikkulainen, Evolving Neural Networks through Augmenting Topologies, "
        "Evolutionary Computation 10(2), 2002",
        where="section 4.1; 100 runs of 150 genomes",
        url="https://doi.org/10.1162/106365602320169811",
    ),
    metrics={
        "canonical_solved": Metric("solved, the paper's rules", unit="%", paper=100, digits=0),
        "canonical_generations": Metric("generations, mean of the solved", paper=32, digits=1),
        "canonical_hidden": Metric("hidden nodes of a solution, mean", paper=2.35),
        "canonical_connections": Metric("its enabled connections, mean", paper=7.48),
        "neat_python_solved": Metric("solved, neat-python's rules", unit="%", digits=0),
        "neat_python_median": Metric("generations, median of all", digits=1),
        "neat_python_hidden": Metric("hidden nodes of a solution, mean"),
    },
    presets={
        "quick": Preset(
            Config(runs=10),
            time="20 s",
            targets=[Target("neat_python_solved", ">=", 80), Target("canonical_solved", ">=", 50)],
            reduced=["10 runs of each rule set instead of 100"],
        ),
        "cpu": Preset(
            Config(),
            time="4 min on one core",
            targets=[Target("neat_python_solved", ">=", 95), Target("canonical_solved", ">=", 95)],
        ),
    },
    headline=True,
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Run both rule sets."""
    torch.set_num_threads(1)
    rules = {
        "canonical": NEATConfig.canonical(config.population),
        "neat_python": NEATConfig.neat_python(config.population),
    }
    results: dict[str, float] = {}
    for name, rule in rules.items():
        solved: list[int] = []
        genomes: list[Genome] = []
        for trial in range(config.runs):
            one = Trial(NEAT(2, 1, rule, seed=1000 * run.seed + trial), xor(), SOLVED)
            with run.part(f"{name}-{trial}"):
                genome = one.evolve(run, config.generations)
            if one.solved is not None:
                solved.append(one.solved)
                genomes.append(genome)
            if trial == 0:
                run.figure(f"{name}-species", plot_species(one.neat.history))
        results |= _summary(name, solved, genomes, config)
        if genomes:
            smallest = min(genomes, key=lambda genome: genome.size)
            run.image(f"{name}-smallest-solution", to_svg(smallest))
    return results


def _summary(
    name: str, solved: list[int], genomes: list[Genome], config: Config
) -> dict[str, float]:
    failed = [config.generations + 1] * (config.runs - len(solved))
    nan = float("nan")
    return {
        f"{name}_solved": 100 * len(solved) / config.runs,
        f"{name}_median": statistics.median(solved + failed),
        f"{name}_generations": statistics.fmean(solved) if solved else nan,
        f"{name}_hidden": statistics.fmean(len(g.nodes) - 1 for g in genomes) if genomes else nan,
        f"{name}_connections": statistics.fmean(g.size[1] for g in genomes) if genomes else nan,
    }
