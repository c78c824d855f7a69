"""Novelty search: how far a behaviour is from its nearest neighbours, now and in an archive.

    ρ(x) = 1/k · Σ_{i ≤ k} |x - μ_i|,    μ_i the i-th nearest of the other behaviours

Source:
    Lehman and Stanley: Abandoning Objectives: Evolution through the Search for Novelty Alone
    (2011), equation 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .population import Population

__all__ = ["Novelty", "NoveltyArchive", "novelty"]

_ROWS = 256  # of distances held at once


def novelty(behaviours: Tensor, archive: Tensor | None = None, *, neighbours: int = 15) -> Tensor:
    """Measure the novelty of every behaviour. Costs P (P + m) d operations.

    Args:
        behaviours: (P, d) of a population; each is compared with all others.
        archive: (m, d) of earlier ones.
        neighbours: k. Where there are fewer others, all of them count; where there are none, the
            novelty is 0.

    Returns:
        (P,) float64.

    Raises:
        ValueError: other shapes, fewer than 1 neighbour, or behaviours that are not finite.
    """
    if behaviours.ndim != 2:
        raise ValueError(
            f"novelty: expected behaviours of shape (P, d), got {tuple(behaviours.shape)}"
        )
    if archive is None:
        archive = behaviours[:0]
    if archive.ndim != 2 or archive.shape[1] != behaviours.shape[1]:
        raise ValueError(
            f"novelty: expected an archive of shape (m, {behaviours.shape[1]}) as the behaviours "
            f"have, got {tuple(archive.shape)}"
        )
    if neighbours < 1:
        raise ValueError(f"novelty: expected at least 1 neighbour, got {neighbours}")
    if not behaviours.isfinite().all():
        row = int((~behaviours.isfinite()).any(1).int().argmax())
        raise ValueError(f"novelty: behaviour {row} holds NaN or infinite values")
    points = behaviours.double()
    everything = torch.cat([points, archive.double()])
    k = min(neighbours, len(everything) - 1)
    out = points.new_zeros(len(points))
    for start in range(0, len(points) if k > 0 else 0, _ROWS):
        rows = torch.arange(start, min(start + _ROWS, len(points)), device=points.device)
        # Through a matrix product, distances of near points would be rounding errors.
        distance = torch.cdist(
            points[rows], everything, compute_mode="donot_use_mm_for_euclid_dist"
        )
        distance[torch.arange(len(rows), device=points.device), rows] = torch.inf
        out[rows] = distance.topk(k, largest=False).values.mean(1)
    return out


@dataclass(frozen=True)
class NoveltyArchive:
    """Behaviours that were novel when they came, the oldest first.

    Deviation: a fixed number enters each generation and the oldest leave a full archive; in the
    paper what is above a threshold that adapts enters, and nothing leaves.

    Attributes:
        behaviours: (m, d)
        capacity: how many it holds.
    """

    behaviours: Tensor
    capacity: int

    def __post_init__(self) -> None:
        if self.behaviours.ndim != 2 or not len(self.behaviours) <= self.capacity:
            raise ValueError(
                f"NoveltyArchive: expected behaviours of shape (m, d) with m <= {self.capacity}, "
                f"the capacity, got {tuple(self.behaviours.shape)}"
            )

    @classmethod
    def empty(cls, dimensions: int, capacity: int) -> NoveltyArchive:
        """An archive for behaviours of `dimensions` numbers."""
        return cls(torch.empty(0, dimensions, dtype=torch.float64), capacity)

    def add(self, behaviours: Tensor, scores: Tensor, *, count: int = 5) -> NoveltyArchive:
        """A new archive with the most novel of a generation.

        Args:
            behaviours: (P, d)
            scores: (P,) their novelty; of equal scores the first row comes first.
            count: how many enter.
        """
        best = scores.argsort(descending=True, stable=True)[:count]
        new = behaviours[best].to(self.behaviours)
        together = torch.cat([self.behaviours, new])
        return NoveltyArchive(together[max(0, len(together) - self.capacity) :], self.capacity)


@dataclass(frozen=True)
class Novelty:
    """Novelty as an objective: its negative.

    Attributes:
        describe: gives the behaviours (P, d) of a population, ``networks(population)(probes)`` as
            one row a genome, say.
        archive: of earlier generations.
        neighbours: k of `novelty`.
    """

    describe: Callable[[Population], Tensor]
    archive: NoveltyArchive
    neighbours: int = 15

    def values(self, population: Population, fitness: Tensor) -> Tensor:
        """Minus the novelty (P,); `fitness` is not looked at."""
        behaviours = self.describe(population)
        archive = self.archive.behaviours.to(behaviours.device)
        return -novelty(behaviours, archive, neighbours=self.neighbours)
