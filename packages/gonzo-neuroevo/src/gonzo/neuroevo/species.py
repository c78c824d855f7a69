"""What is known about a species: its age, its progress, and how many offspring it may have.

    canonical     offspring ∝ mean fitness of its members, which is the sum of their shared fitness
    neat-python   half-way from the size before to that, with at least `min_species_size`

Both give exactly the population's size.

Deviation: where fitness is negative, canonical offspring is by what is above the least of the
species that go on. When every species has stagnated, the best stays; neat-python's population
dies out.

Source:
    Stanley and Miikkulainen (2002), section 3.3 and 4.1; neat-python 2.0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import NEATConfig


@dataclass
class Species:
    """One species.

    Attributes:
        key: 1, 2, … in the order of appearance.
        created: generation of its first member.
        improved: generation of its last progress.
        best: fitness then, by the rule `species_fitness`.
        size: members now.
    """

    key: int
    created: int
    improved: int
    best: float = -np.inf
    size: int = 0


def survivors(
    species: Sequence[Species], fitness: NDArray, config: NEATConfig, generation: int, stale: int
) -> list[int]:
    """Positions of the species that may reproduce.

    Args:
        species: all of them; `improved` and `best` are brought up to date.
        fitness: (S,) of each species.
        config: the rules.
        generation: the present one.
        stale: generations since the best fitness of all has risen.
    """
    for one, now in zip(species, fitness, strict=True):
        if now > one.best:
            one.best, one.improved = float(now), generation
    worst_first = np.argsort(fitness, kind="stable")
    if config.refocus and stale and stale % config.refocus == 0:
        return sorted(worst_first[-2:].tolist())
    remaining = len(species)
    kept = []
    for place, at in enumerate(worst_first.tolist()):
        stagnant = generation - species[at].improved >= config.stagnation
        protected = len(species) - place <= max(1, config.protected_species)
        if stagnant and not protected and remaining > config.protected_species:
            remaining -= 1
        else:
            kept.append(at)
    return sorted(kept)


def offspring(
    mean: NDArray, sizes: NDArray, least: float, most: float, config: NEATConfig
) -> NDArray[np.int64]:
    """Sizes (S,) of the species in the next generation.

    Args:
        mean: (S,) mean fitness of the members.
        sizes: (S,) members now.
        least: least fitness of any of their members.
        most: largest.
        config: the rules.
    """
    total = config.population
    if config.spawn == "canonical":
        return _apportion(mean - min(least, 0.0), total)
    adjusted = (mean - least) / max(1.0, most - least)
    smallest = config.least_species_size
    wanted = np.full(len(mean), float(smallest))
    if adjusted.sum() > 0:
        wanted = np.maximum(smallest, adjusted / adjusted.sum() * total)
    step = (wanted - sizes) / 2
    step = np.where(np.abs(np.rint(step)) > 0, np.rint(step), np.sign(step))
    spawned = np.maximum(sizes + step, 0)
    spawned = np.maximum(smallest, np.rint(spawned * total / max(spawned.sum(), 1)))
    return _exactly(spawned.astype(np.int64), total, smallest)


def _apportion(weight: NDArray, total: int) -> NDArray[np.int64]:
    """`total` in proportion to `weight`, by largest remainders."""
    if weight.sum() <= 0:
        weight = np.ones_like(weight)
    share = weight / weight.sum() * total
    count = np.floor(share).astype(np.int64)
    largest = np.argsort(count - share, kind="stable")
    count[largest[: total - count.sum()]] += 1
    return count


def _exactly(count: NDArray[np.int64], total: int, smallest: int) -> NDArray[np.int64]:
    """Add to the smallest, or take from the largest, in turn until the sum is `total`."""
    assert smallest * len(count) <= total, "there are fewer species than have room"
    count = count.copy()
    while (missing := total - int(count.sum())) != 0:
        if missing > 0:
            turn = np.argsort(count, kind="stable")[:missing]
            count[turn] += 1
        else:
            turn = np.argsort(-count, kind="stable")
            turn = turn[count[turn] > smallest][:-missing]
            count[turn] -= 1
    return count
