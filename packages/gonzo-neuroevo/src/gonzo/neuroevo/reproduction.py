"""The next generation: champions as they are, and children of the fitter members of each species.

Genomes stay on their device; only fitness and the sizes of species leave it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .config import NEATConfig
from .crossover import crossover
from .innovation import Innovations
from .mutation import mutate
from .population import Population


class Ranking(NamedTuple):
    """Genomes by species, and in a species from the fittest on.

    Attributes:
        order: (P,) int64 positions.
        start: (S,) int64 where each species begins in `order`.
        size: (S,) int64 members.
        mean: (S,) mean fitness.
        score: (S,) fitness by the rule `species_fitness`.
        least: (S,) least fitness.
        most: (S,) largest fitness.
    """

    order: Tensor
    start: NDArray
    size: NDArray
    mean: NDArray
    score: NDArray
    least: NDArray
    most: NDArray


def rank(fitness: Tensor, member_of: Tensor, species: int, config: NEATConfig) -> Ranking:
    """Sort genomes by fitness (P,) within their species `member_of` (P,) 0 … S - 1."""
    order = fitness.argsort(descending=True, stable=True)
    order = order[member_of[order].argsort(stable=True)]
    size = torch.bincount(member_of, minlength=species)
    start = size.cumsum(0) - size
    ranked = fitness[order].cpu().double().numpy()
    start, size = start.cpu().numpy(), size.cpu().numpy()
    # Sums of sorted segments here: a GPU would add in another order every time.
    mean = np.add.reduceat(ranked, start) / size
    most, least = ranked[start], ranked[start + size - 1]
    score = {
        "max": most,
        "min": least,
        "mean": mean,
        "median": (ranked[start + (size - 1) // 2] + ranked[start + size // 2]) / 2,
    }[config.species_fitness]
    return Ranking(order, start, size, mean, score, least, most)


class Offspring(NamedTuple):
    """A next generation.

    Attributes:
        population: P genomes, the copied ones first.
        copied: (E,) int64 positions in the last generation of those that are copies.
        refused: mutations and crossovers that had no room.
    """

    population: Population
    copied: Tensor
    refused: int


def reproduce(
    population: Population,
    fitness: Tensor,
    ranking: Ranking,
    kept: list[int],
    counts: NDArray[np.int64],
    config: NEATConfig,
    innovations: Innovations,
    generator: Generator,
) -> Offspring:
    """Copy the champions and breed the rest.

    Args:
        population: P genomes.
        fitness: (P,) of them.
        ranking: of them.
        kept: positions of the species that may reproduce.
        counts: how many genomes each of these has in the next generation.
        config: the rules.
        innovations: moves on.
        generator: of all random numbers.
    """
    device = generator.device
    start, size = ranking.start[kept], ranking.size[kept]
    copied = np.minimum(np.where(size >= config.elitism_size, config.elitism, 0), size)
    copied = np.minimum(copied, counts)
    champions = np.repeat(start, copied) + _count_up(copied)
    champions = ranking.order[torch.from_numpy(champions).to(device)]
    parents = np.minimum(np.maximum(np.ceil(config.survival * size), 2), size)
    born = counts - copied
    of = np.stack([np.repeat(start, born), np.repeat(parents.astype(np.int64), born)])
    begin, among = torch.from_numpy(of).to(device)
    children, refused = _breed(population, fitness, ranking.order, begin, among, config, generator)
    mutated = mutate(children, config, innovations, generator)
    following = Population.cat([population.select(champions), mutated.population])
    return Offspring(following.crop(), champions, mutated.refused + refused)


def _breed(
    population: Population,
    fitness: Tensor,
    order: Tensor,
    begin: Tensor,
    among: Tensor,
    config: NEATConfig,
    generator: Generator,
) -> tuple[Population, int]:
    """Children of two of the `among` (M,) genomes from `begin` (M,) on in `order`."""
    device = generator.device
    chance = torch.rand(5, len(begin), generator=generator, device=device, dtype=torch.float64)
    first = order[begin + (chance[0] * among).long()]
    second = order[begin + (chance[1] * among).long()]
    if config.interspecies:
        stranger = (chance[2] * len(population)).long()
        second = torch.where(chance[3] < config.interspecies, stranger, second)
    if config.crossover < 1:
        second = torch.where(chance[4] < config.crossover, second, first)
    fitter, other = fitness[first], fitness[second]
    swap = other > fitter
    if config.equal_parents == "smaller":
        genes = population.connection_mask.sum(1)
        swap |= (other == fitter) & (genes[second] < genes[first])
    first, second = torch.where(swap, second, first), torch.where(swap, first, second)
    children, refused = crossover(
        population.select(first),
        population.select(second),
        fitter == other,
        config,
        generator,
        alone=first == second,
    )
    limited = config.max_nodes or config.max_connections
    return children, int(refused.sum()) if limited else 0


def _count_up(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 … n - 1 for each n, one after another."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
