"""Symbolic regression: networks whose nodes are functions, trained by gradients, read as formulas.

Claim: with functions to choose from, NEAT finds expressions for functions given by points; training
their numbers by gradients while they evolve finds better ones, also on points that were kept apart.

For every target of a benchmark list, NEAT evolves with R² on the training points as fitness, in two
arms. In `trained`, all genomes are trained every 20 generations by `fine_tune`, which writes their
weights back, and once more at the end. The champions are judged by R² on the test points. The
control is a polynomial with as many numbers as the answer, lowest degrees first, by least squares.

The list's numbers in its source are of genetic programming with other budgets, so none stand beside
ours.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import Choice, NEATConfig, Number
from gonzo.neuroevo.evaluators import InProcess
from gonzo.neuroevo.evolution import advance
from gonzo.neuroevo.export.formula import to_latex
from gonzo.neuroevo.export.picture import to_svg
from gonzo.neuroevo.fine_tuning import fine_tune
from gonzo.neuroevo.genome import Genome
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.regression import SymbolicRegression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FUNCTIONS = ("identity", "sin", "square", "tanh", "exp", "log", "gauss")
ARMS = ("evolved", "trained")


@dataclass(frozen=True)
class Config:
    """Which functions, and how long."""

    targets: tuple[str, ...] = (
        "nguyen-1",
        "nguyen-5",
        "nguyen-6",
        "nguyen-7",
        "keijzer-4",
        "keijzer-12",
        "keijzer-13",
    )
    runs: int = 5
    """Of each target; the medians are reported."""
    population: int = 300
    generations: int = 300
    every: int = 20
    """Generations between trainings, in the arm that has them."""
    steps: int = 20
    """Of gradients, each time; the champion has 25 times as many at the end."""

    def __post_init__(self) -> None:
        require(bool(self.targets), "at least one target")
        require(self.runs >= 1, f"runs of at least 1, got {self.runs}")


RECIPE = Recipe(
    claim="NEAT over functions finds expressions, and gradients make them better",
    paper=Paper(
        "Uy, Hoai, O'Neill, McKay and Galván-López, Semantically-based Crossover in Genetic "
        "Programming: Application to Real-valued Symbolic Regression, 2011",
        where="the targets, as listed in McDermott et al. (2012); other budgets, so no numbers",
        url="https://doi.org/10.1007/s10710-010-9121-2",
    ),
    metrics={
        "evolved": Metric("test R², evolved, mean of the targets", digits=3),
        "trained": Metric("test R², evolved and trained", digits=3),
        "gain": Metric("what training adds", digits=3),
        "polynomial": Metric("test R², polynomial with as many numbers", digits=3),
        "found": Metric("targets with test R² above 0.99", unit="%", digits=0),
        "numbers": Metric("numbers in an answer, median", digits=0),
    },
    presets={
        "quick": Preset(
            Config(targets=("nguyen-5", "nguyen-7", "keijzer-4"), runs=1, generations=100),
            time="20 s",
            targets=[Target("trained", ">", 0.7), Target("gain", ">", 0)],
            reduced=["3 targets, 1 run of 100 generations each"],
        ),
        "cpu": Preset(
            Config(),
            time="6 min on one core",
            targets=[Target("trained", ">", 0.9), Target("gain", ">", 0)],
            reduced=["7 targets, 5 runs each"],
        ),
    },
)


def rules(population: int) -> NEATConfig:
    """neat-python's rules with functions to choose from and smaller steps."""
    number = Number(mutate=0.5, power=0.3, replace=0.05)
    return NEATConfig(
        population=population,
        weight=number,
        bias=number,
        activation=Choice(FUNCTIONS, mutate=0.1),
        aggregation=Choice(("sum", "product"), initial="sum", mutate=0.05),
        add_connection=0.5,
        delete_connection=0.1,
        add_node=0.4,
        delete_node=0.1,
        threshold=2.0,
    )


def main(config: Config, run: Run) -> dict[str, float]:
    """Evolve both arms for every target, and judge them."""
    torch.set_num_threads(1)
    results: dict[str, list[float]] = {
        name: [] for name in ("evolved", "trained", "polynomial", "numbers")
    }
    for target in config.targets:
        problem = SymbolicRegression(target)
        answers = []
        for index in range(config.runs):
            seed = 1000 * run.seed + index
            with run.part(f"{target}-{index}"):
                answers.append([_answer(problem, config, run, seed, arm) for arm in ARMS])
        scores = [[_test(problem, genome) for genome in pair] for pair in answers]
        for name, column in zip(ARMS, zip(*scores, strict=True), strict=True):
            results[name].append(statistics.median(column))
        best = max((pair[1] for pair in answers), key=lambda genome: _test(problem, genome))
        numbers = _numbers(best)
        results["numbers"].append(numbers)
        results["polynomial"].append(_polynomial(problem, numbers))
        run.image(f"{target}-network", to_svg(best))
        if problem.inputs == 1:
            run.figure(f"{target}", _figure(problem, best))
    means = {name: statistics.fmean(values) for name, values in results.items()}
    return (
        means
        | {
            "numbers": statistics.median(results["numbers"]),
            "gain": means["trained"] - means["evolved"],
            "found": 100 * statistics.fmean(score > 0.99 for score in results["trained"]),
        }
        | {
            f"{target}_{name}": values[at]
            for at, target in enumerate(config.targets)
            for name, values in results.items()
        }
    )


def _answer(problem: SymbolicRegression, config: Config, run: Run, seed: int, arm: str) -> Genome:
    """The champion of one run."""
    neat = NEAT(problem.inputs, 1, rules(config.population), seed=seed, dtype=torch.float64)
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)[:, None]
    for step in run.steps(config.generations, name=arm, neat=neat):
        if arm == "trained" and (step + 1) % config.every == 0:
            neat.population = fine_tune(neat.networks(), x, y, steps=config.steps).population
        advance(neat, problem, evaluator=InProcess())
        run.log(step, best=neat.history[-1].best)
    if arm == "evolved":
        return neat.best_genome
    return fine_tune(neat.best_networks(), x, y, steps=25 * config.steps).population.genome(0)


def _test(problem: SymbolicRegression, genome: Genome) -> float:
    """R² on the test points, at least -1: a pole between two points would decide any mean."""
    people = Population.from_genomes([genome], dtype=torch.float64)
    return max(-1.0, float(problem.test_fitness(networks(people))[0]))


def _numbers(genome: Genome) -> int:
    """Weights and biases of the answer."""
    nodes, connections = genome.size
    return nodes + connections


def _polynomial(problem: SymbolicRegression, numbers: int) -> float:
    """Test R² of the polynomial with at most so many terms, lowest degrees first."""
    degrees = itertools.product(range(9), repeat=problem.inputs)
    terms = sorted(degrees, key=lambda powers: (sum(powers), powers))[:numbers]

    def table(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.prod(x**powers, axis=1) for powers in terms], axis=1)

    solution = np.linalg.lstsq(table(problem.x), problem.y)[0]
    error = table(problem.x_test) @ solution - problem.y_test
    spread = problem.y_test - problem.y_test.mean()
    return max(-1.0, float(1 - (error**2).sum() / (spread**2).sum()))


def _figure(problem: SymbolicRegression, genome: Genome) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    order = np.argsort(problem.x_test[:, 0])
    x = torch.from_numpy(problem.x_test[order])
    found = networks(Population.from_genomes([genome], dtype=torch.float64))(x)[0, :, 0]
    axes.plot(problem.x_test[order, 0], problem.y_test[order], "k-", lw=3, alpha=0.3, label="test")
    axes.plot(problem.x[:, 0], problem.y, "k.", label="training points")
    axes.plot(x[:, 0].numpy(), found.numpy(), "r-", lw=1, label="found")
    latex = to_latex(genome, names=problem.variables)[0]
    if len(latex) < 120:
        axes.set_title(f"${latex}$", fontsize="small")
    axes.legend(fontsize="small")
    figure.tight_layout()
    return figure
