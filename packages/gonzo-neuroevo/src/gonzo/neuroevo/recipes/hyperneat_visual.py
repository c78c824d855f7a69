"""HyperNEAT on visual discrimination: geometry in the encoding lets it see what it was not shown.

Claim: a CPPN that paints the weights of a field-to-field network finds where the larger of two
squares is, also at places that it was never shown; a direct encoding of the same weights, which
knows nothing of where things are, does not carry over.

The network sees a field of side × side cells with a square of 3 × 3 cells and one of a single
cell, and points at a cell. Fitness is one minus the mean squared distance to the middle of the
larger square, on the shown placements. The control evolves the same weights, one gene each, with
NEAT's rules and no new nodes ("P-NEAT" in the paper), with as many evaluations. Both champions are
judged on the placements kept apart, by the mean distance in cells (root of the mean square), beside
pointing at the middle of the field whatever is shown. A third arm is HyperNEAT whose CPPN also sees
the distance of the two nodes: that is most of the answer, so it stands apart.

What is different: outputs are a line, where the paper has a sigmoid; and the paper draws other
trials every time and measures on 100 hand-made ones, where the shown placements are fixed for a run
here, so that "not shown" is exact.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import torch

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import Choice, NEATConfig, Number
from gonzo.neuroevo.cppn import cppn_config
from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.evolution import advance
from gonzo.neuroevo.export.picture import to_svg
from gonzo.neuroevo.hyperneat import HyperNEAT
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.plots import plot_fitness, plot_species
from gonzo.neuroevo.visual_discrimination import VisualDiscrimination


@dataclass(frozen=True)
class Config:
    """The field, and how long."""

    side: int = 11
    trials: int = 75
    """Placements shown."""
    runs: int = 5
    population: int = 100
    generations: int = 300

    def __post_init__(self) -> None:
        require(self.side >= 5, f"side of at least 5, got {self.side}")
        require(self.runs >= 1, f"runs of at least 1, got {self.runs}")


RECIPE = Recipe(
    claim="a geometric encoding finds the larger square where it was never shown",
    paper=Paper(
        "Stanley, D'Ambrosio and Gauci, A Hypercube-Based Encoding for Evolving Large-Scale Neural "
        "Networks, Artificial Life 15(2), 2009",
        where="section 5.1; its numbers are of other trials",
        url="https://doi.org/10.1162/artl.2009.15.2.15202",
    ),
    metrics={
        "hyperneat": Metric("distance on placements not shown: HyperNEAT", unit="cells"),
        "direct": Metric("direct encoding, equal evaluations", unit="cells"),
        "middle": Metric("pointing at the middle of the field", unit="cells"),
        "ratio": Metric("HyperNEAT over direct"),
        "with_distance": Metric("HyperNEAT that sees distances", unit="cells"),
        "hyperneat_shown": Metric("on those shown: HyperNEAT", unit="cells"),
        "direct_shown": Metric("on those shown: direct encoding", unit="cells"),
        "cppn_connections": Metric("connections of the CPPN, median", digits=0),
        "weights": Metric("weights of the network", digits=0),
    },
    presets={
        "quick": Preset(
            Config(side=7, trials=60, runs=1, generations=40),
            time="15 s",
            targets=[Target("with_distance", "<", 0.5), Target("ratio", "<", 0.9)],
            reduced=["a field of 7 × 7", "1 run of 40 generations"],
        ),
        "cpu": Preset(
            Config(),
            time="12 min on one core",
            targets=[Target("with_distance", "<", 0.5), Target("ratio", "<", 0.5)],
            reduced=["5 runs"],
        ),
    },
    headline=True,
)


def direct(population: int) -> NEATConfig:
    """NEAT without structural mutations: what evolves is the weights."""
    return NEATConfig(
        population=population,
        weight=Number(mean=0.0, std=1.0, low=-3.0, high=3.0, mutate=0.8, power=0.5, replace=0.1),
        bias=Number(std=0.0, mutate=0.0, power=0.0, replace=0.0),
        activation=Choice(("identity",)),
        enabled_mutate=0.0,
        add_connection=0.0,
        delete_connection=0.0,
        add_node=0.0,
        delete_node=0.0,
    )


def main(config: Config, run: Run) -> dict[str, float]:
    """Evolve both encodings, and judge them."""
    torch.set_num_threads(1)
    results: dict[str, list[float]] = {}
    for index in range(config.runs):
        seed = 1000 * run.seed + index
        task = VisualDiscrimination(config.side, trials=config.trials, seed=seed)
        # Outputs are a line: a sigmoid is 1 to float32 from 17 on, and the largest not one cell.
        plain = HyperNEAT(task.substrate, activation="identity")
        cells = config.side**2
        rules = cppn_config(config.population)
        arms = {
            "hyperneat": plain.neat(rules, seed=seed),
            "with_distance": replace(plain, distance=True).neat(rules, seed=seed),
            "direct": NEAT(cells, cells, direct(config.population), seed=seed),
        }
        for name, neat in arms.items():
            with run.part(f"{name}-{index}"):
                for step in run.steps(config.generations, name="evolve", neat=neat):
                    advance(neat, task, evaluator=InProcess())
                    run.log(step, best=neat.history[-1].best)
            apart = float(task.test_fitness(neat.best_networks())[0])
            shown = neat.champion.fitness if neat.champion else float("nan")
            results.setdefault(name, []).append(_cells(apart, config.side))
            results.setdefault(f"{name}_shown", []).append(_cells(shown, config.side))
        size = arms["hyperneat"].best_genome.size[1]
        results.setdefault("cppn_connections", []).append(size)
        results.setdefault("middle", []).append(task.middle_distance())
        if index == 0:
            run.figure("species", plot_species(arms["hyperneat"].history))
            run.figure("fitness", plot_fitness(arms["hyperneat"].history))
            names = dict(enumerate(("from x", "from y", "to x", "to y", "1")))
            named = {-1 - i: name for i, name in names.items()}
            run.image("cppn", to_svg(arms["hyperneat"].best_genome, named))
    medians = {name: statistics.median(values) for name, values in results.items()}
    return medians | {
        "ratio": medians["hyperneat"] / medians["direct"],
        "weights": float(config.side**4),
    }


def _cells(fitness: float, side: int) -> float:
    """Root of the mean squared distance, from the fitness."""
    return (max(0.0, 1 - fitness) * 2 * (side - 1) ** 2) ** 0.5
