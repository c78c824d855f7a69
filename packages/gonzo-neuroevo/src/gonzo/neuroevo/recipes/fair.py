"""NEAT beside an evolution strategy and random search, with equal evaluations and many seeds.

Claim (the paper's): evolving the topology along with the weights is better than searching the
weights of a fixed topology.

Three arms have the same number of evaluations of the same problem:

    neat      NEAT with neat-python's rules, starting without hidden nodes
    cma_es    CMA-ES (the package `cma`) on the weights and biases of one hidden layer, fully
              connected; its population is as large, its first step size is 1
    random    weights and biases of that network drawn from N(0, 2²), the best is kept

Scores are of the champion by fitness, judged on what did not select it: test points for regression,
held-out episodes for CartPole (training episodes differ from genome to genome and generation to
generation, for all arms); XOR has nothing to hold out. Reported are interquartile means over seeds,
with 95 % intervals of the stratified bootstrap, and how often NEAT's score is above another's
(Agarwal et al. 2021). Nothing was tuned for one arm: CMA-ES has its defaults.

The paper's claim is about control, so the target is on CartPole. In regression the fixed topology
is the better one, and the numbers say so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gonzo.lab import Metric, Paper, Preset, Recipe, Run, Target
from gonzo.lab.training import require
from gonzo.neuroevo.config import Choice, NEATConfig
from gonzo.neuroevo.gym import GymnasiumProblem
from gonzo.neuroevo.neat import NEAT
from gonzo.neuroevo.phenotypes import Phenotype
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.problem import Problem
from gonzo.neuroevo.recipes.fixed_topology import FixedTopology, cma_es, random_search
from gonzo.neuroevo.recipes.trial import interquartile_mean
from gonzo.neuroevo.regression import SymbolicRegression
from gonzo.neuroevo.seeds import Episodes
from gonzo.neuroevo.supervised import xor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = ("neat", "cma_es", "random")
TASKS = ("xor", "regression", "cartpole")
_REPORTED = 10_000_019  # held-out episodes of seeds on which nothing was decided
_EPISODES = 20


@dataclass(frozen=True)
class Config:
    """Seeds, and how many evaluations."""

    seeds: int = 30
    population: int = 150
    generations: tuple[int, ...] = (100, 200, 4)
    """Of XOR, regression and CartPole: evaluations are so many populations."""
    hidden: int = 8
    """Hidden nodes of the fixed topology."""

    def __post_init__(self) -> None:
        require(len(self.generations) == len(TASKS), f"generations for each of {TASKS}")
        require(self.seeds >= 2, f"seeds of at least 2, got {self.seeds}")


RECIPE = Recipe(
    claim="NEAT beside CMA-ES and random search on a fixed topology, with equal evaluations",
    paper=Paper(
        "Stanley and Miikkulainen, Evolving Neural Networks through Augmenting Topologies, "
        "Evolutionary Computation 10(2), 2002",
        where="section 4.3 compares on double pole balancing without velocities; other tasks here",
        url="https://doi.org/10.1162/106365602320169811",
    ),
    metrics={
        f"{task}_{arm}": Metric(f"{label}: {arm}, interquartile mean", digits=digits)
        for task, label, digits in (
            ("xor", "XOR fitness, of 4", 3),
            ("regression", "keijzer-4, test R²", 3),
            ("cartpole", "CartPole, held-out return", 0),
        )
        for arm in ARMS
    }
    | {
        f"{task}_above_cma_es": Metric(f"{task}: a run of NEAT above one of CMA-ES", digits=2)
        for task in TASKS
    },
    presets={
        "quick": Preset(
            Config(seeds=6, generations=(40, 40, 2)),
            time="25 s",
            targets=[Target("cartpole_above_cma_es", ">", 0.5)],
            reduced=["6 seeds", "40, 40 and 2 populations of evaluations"],
        ),
        "cpu": Preset(
            Config(),
            time="6 min on one core",
            targets=[Target("cartpole_above_cma_es", ">", 0.5)],
            reduced=["three small tasks"],
        ),
    },
)


def main(config: Config, run: Run) -> dict[str, float]:
    """Run all arms on all tasks with all seeds."""
    torch.set_num_threads(1)
    scores: dict[str, dict[str, list[float]]] = {task: {arm: [] for arm in ARMS} for task in TASKS}
    for task, arm, index in itertools.product(TASKS, ARMS, range(config.seeds)):
        budget = config.generations[TASKS.index(task)]
        seed = 1000 * run.seed + index
        score = run.once(f"{task}-{arm}-{index}", lambda: _score(task, arm, seed, budget, config))
        scores[task][arm].append(score)
    results: dict[str, float] = {}
    for task, arms in scores.items():
        for arm, values in arms.items():
            low, high = interval(values, seed=run.seed)
            results[f"{task}_{arm}"] = interquartile_mean(values)
            results[f"{task}_{arm}_low"], results[f"{task}_{arm}_high"] = low, high
        for arm in ARMS[1:]:
            results[f"{task}_above_{arm}"] = above(arms["neat"], arms[arm])
    run.figure("scores", _figure(scores))
    return results


def _score(task: str, arm: str, seed: int, generations: int, config: Config) -> float:
    problem: Problem = {
        "xor": xor,
        "regression": lambda: SymbolicRegression("keijzer-4"),
        "cartpole": lambda: GymnasiumProblem("CartPole-v1"),
    }[task]()
    if arm == "neat":
        champion = _neat(problem, seed, generations, config)
    else:
        network = FixedTopology(problem.inputs, problem.outputs, config.hidden)
        search = cma_es if arm == "cma_es" else random_search
        champion = search(network, problem, seed, generations, config.population)
    if isinstance(problem, GymnasiumProblem):
        returns = problem.held_out(
            champion.genome(0),
            run_seed=seed + _REPORTED,
            episodes=_EPISODES,
            phenotype=Phenotype(),
        )
        return float(returns.mean())
    nets = Phenotype()(champion)
    if isinstance(problem, SymbolicRegression):
        return max(-1.0, float(problem.test_fitness(nets)[0]))
    return float(problem.evaluate(nets, Episodes(seed, 0, (0,)))[0])


def _neat(problem: Problem, seed: int, generations: int, config: Config) -> Population:
    # neat-python's sigmoid, as in its examples. Regression needs outputs of any size: there, nodes
    # are lines or tanh, the functions that the fixed topology has.
    functions = Choice(("steep_sigmoid",))
    if isinstance(problem, SymbolicRegression):
        functions = Choice(("identity", "tanh"), mutate=0.1)
    rules = NEATConfig(population=config.population, activation=functions)
    neat = NEAT(problem.inputs, problem.outputs, rules, seed=seed, dtype=torch.float64)
    for generation in range(generations):
        episodes = Episodes(seed, generation, tuple(neat.ids.tolist()))
        neat.tell(problem.evaluate(neat.networks(), episodes).clamp(min=-1e6))
    return Population.from_genomes([neat.best_genome], dtype=torch.float64)


def interval(values: list[float], *, seed: int, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the interquartile mean, by the bootstrap over seeds."""
    generator = np.random.default_rng(seed)
    resampled = generator.choice(np.array(values), (draws, len(values)))
    means = [interquartile_mean(row.tolist()) for row in resampled]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def above(ours: list[float], theirs: list[float]) -> float:
    """Probability that a run of ours scores higher than one of theirs; a tie counts half."""
    one: NDArray[np.float64] = np.array(ours)[:, None]
    other = np.array(theirs)[None, :]
    return float(((one > other) + 0.5 * (one == other)).mean())


def _figure(scores: dict[str, dict[str, list[float]]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(scores), 3))
    for place, (task, arms) in enumerate(scores.items()):
        axes = figure.add_subplot(1, len(scores), place + 1)
        axes.boxplot(list(arms.values()), tick_labels=list(arms), showfliers=True)
        axes.set_title(task, fontsize="medium")
    figure.tight_layout()
    return figure
