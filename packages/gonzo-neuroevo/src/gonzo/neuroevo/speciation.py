"""Divide a generation into species by distance to one representative of each.

Genomes are taken in order. One that is near no representative founds a species, which those after
it may join; so this is a loop over new species, and batched over genomes.

    representatives="nearest"   neat-python: a species is represented by the new genome nearest to
                                its old representative, and a genome joins the nearest species
    representatives="random"    2002: by a random member of last generation, and a genome joins the
                                first species that is near enough

Deviation: when there are as many species as have room, a genome joins the nearest one whatever the
threshold.

Source:
    Stanley and Miikkulainen (2002), section 3.3; neat-python 2.0.0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .config import NEATConfig
from .distance import distance
from .population import Population


class Division(NamedTuple):
    """A generation in species.

    Attributes:
        member_of: (P,) int64, the species of each genome: 0 … S' - 1, the old ones first.
        representatives: S' genomes.
        old: how many of the species are old ones; some of these may have no member.
    """

    member_of: Tensor
    representatives: Population
    old: int


def divide(
    population: Population,
    representatives: Population | None,
    config: NEATConfig,
    threshold: float,
) -> Division:
    """Divide P genomes, given S representatives, or None in the first generation."""
    size, device = len(population), population.device
    old = 0 if representatives is None else len(representatives)
    nearest = torch.full((size,), torch.inf, device=device)
    member_of = torch.full((size,), -1, dtype=torch.int64, device=device)
    founders: list[Population] = []
    if representatives is not None and old:
        apart = distance(population, representatives, config)
        if config.representatives == "nearest":
            chosen = _nearest_each(apart)
            representatives = population.select(chosen)
            apart = distance(population, representatives, config)
            apart[torch.arange(old, device=device), chosen] = -1.0  # they stay, whoever is equal
            nearest, member_of = apart.min(0)
        else:
            near = apart < threshold
            member_of = torch.where(near.any(0), near.int().argmax(0), apart.argmin(0))
            nearest = apart.gather(0, member_of[None])[0]
        founders.append(representatives)
    position = torch.arange(size, device=device)
    count = old
    while count < config.most_species:
        alone = nearest >= threshold
        founder = alone.int().argmax()[None]
        if not bool(alone[founder]):
            break
        founders.append(population.select(founder))
        apart = distance(population, founders[-1], config)[0]
        joins = (position > founder) & (apart < nearest)
        if config.representatives == "random":
            joins &= alone  # the others have found their first
        joins[founder] = True
        apart[founder] = -1.0
        nearest = torch.where(joins, apart, nearest)
        member_of = torch.where(joins, count, member_of)
        count += 1
    return Division(member_of, Population.cat(founders), old)


def _nearest_each(apart: Tensor) -> Tensor:
    """For every row of (S, P) in turn, the column with the smallest number that is not taken."""
    apart = apart.clone()
    chosen = torch.empty(len(apart), dtype=torch.int64, device=apart.device)
    for row in range(len(apart)):
        chosen[row] = apart[row].argmin()
        apart[:, chosen[row]] = torch.inf
    return chosen
