"""Search of the weights of one topology: what NEAT is compared with in `fair`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gonzo.core import require
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene
from gonzo.neuroevo.phenotypes import networks
from gonzo.neuroevo.population import Population
from gonzo.neuroevo.problem import Problem
from gonzo.neuroevo.seeds import Episodes


class FixedTopology:
    """One hidden layer of tanh, fully connected, with outputs that are a line.

    Args:
        inputs: of the network.
        outputs: of the network.
        hidden: nodes in the layer.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        keys = range(outputs, outputs + hidden)
        self.genome = Genome(
            inputs,
            outputs,
            tuple(NodeGene(key, activation="identity") for key in range(outputs))
            + tuple(NodeGene(key, activation="tanh") for key in keys),
            tuple(ConnectionGene(-1 - i, key, 1.0) for i in range(inputs) for key in keys)
            + tuple(ConnectionGene(key, o, 1.0) for key in keys for o in range(outputs)),
        )
        self.parameters = len(self.genome.connections) + len(self.genome.nodes)

    def population(self, vectors: NDArray[np.float64]) -> Population:
        """Genomes whose weights, then biases, are the rows (P, parameters)."""
        one = Population.from_genomes([self.genome], dtype=torch.float64)
        people = one.select(torch.zeros(len(vectors), dtype=torch.int64))
        values = torch.from_numpy(np.ascontiguousarray(vectors))
        edges = people.weight.shape[1]
        return people.with_(weight=values[:, :edges], bias=values[:, edges:])


def cma_es(
    topology: FixedTopology, problem: Problem, seed: int, generations: int, population: int
) -> Population:
    """The best by fitness that CMA-ES met."""
    cma = require("cma", extra="gonzo-neuroevo[recipes]")
    options = {"popsize": population, "seed": seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(np.zeros(topology.parameters), 1.0, options)
    best: tuple[float, NDArray[np.float64]] = (-np.inf, np.zeros(topology.parameters))
    for generation in range(generations):
        vectors = np.array(strategy.ask(population))
        fitness = _fitness(topology, problem, vectors, seed, generation)
        strategy.tell(list(vectors), (-fitness).tolist())
        best = _better(best, fitness, vectors)
    return topology.population(best[1][None])


def random_search(
    topology: FixedTopology, problem: Problem, seed: int, generations: int, population: int
) -> Population:
    """The best by fitness of random networks."""
    generator = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.float64]] = (-np.inf, np.zeros(topology.parameters))
    for generation in range(generations):
        vectors = 2 * generator.standard_normal((population, topology.parameters))
        best = _better(best, _fitness(topology, problem, vectors, seed, generation), vectors)
    return topology.population(best[1][None])


def _fitness(
    topology: FixedTopology,
    problem: Problem,
    vectors: NDArray[np.float64],
    seed: int,
    generation: int,
) -> NDArray[np.float64]:
    ids = tuple(range(generation * len(vectors), (generation + 1) * len(vectors)))
    nets = networks(topology.population(vectors))
    return problem.evaluate(nets, Episodes(seed, generation, ids)).numpy()


def _better(
    best: tuple[float, NDArray[np.float64]],
    fitness: NDArray[np.float64],
    vectors: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    top = int(fitness.argmax())
    return (float(fitness[top]), vectors[top]) if fitness[top] > best[0] else best
