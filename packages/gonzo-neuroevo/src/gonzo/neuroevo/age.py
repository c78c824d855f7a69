"""Generations since a protected part was last changed, as an objective that shields innovations.

A child inherits its parent's age. A mutation of a protected part sets it to 0, every generation
adds 1 to all. Minimised beside minus the reward, the age lets a genome whose protected part is new
compete with its like until the rest has adapted to it.

Source:
    Risi and Stanley: Deep Innovation Protection (2021), where the parts are networks;
    Schmidt and Lipson: Age-Fitness Pareto Optimization (2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .population import Population

__all__ = ["Age"]


@dataclass(frozen=True)
class Age:
    """The ages of a population, row by row.

    Attributes:
        ages: (P,) int64.
    """

    ages: Tensor

    def __post_init__(self) -> None:
        if self.ages.ndim != 1 or self.ages.dtype != torch.int64:
            raise ValueError(
                f"Age: expected ages of shape (P,) and int64, got {tuple(self.ages.shape)} and "
                f"{self.ages.dtype}; Age.newborn(size) is where a run starts"
            )

    @classmethod
    def newborn(cls, size: int, *, device: torch.device | str | None = None) -> Age:
        """The ages of a first population: 0."""
        return cls(torch.zeros(size, dtype=torch.int64, device=device))

    def older(self) -> Age:
        """One generation later.

        The paper's generation passes before objectives are read: a newborn competes with age 1.
        """
        return Age(self.ages + 1)

    def children(self, parents: Tensor, changed: Tensor) -> Age:
        """The ages of children.

        Args:
            parents: (n,) rows of their parents; of two parents, of the fitter.
            changed: (n,) bool, whether a protected part was mutated.

        Returns:
            n ages: 0 where changed, the parent's elsewhere.
        """
        if changed.dtype != torch.bool or changed.shape != parents.shape:
            raise ValueError(
                f"Age.children: expected changed as bool of the shape of parents, "
                f"{tuple(parents.shape)}, got {changed.dtype} of {tuple(changed.shape)}"
            )
        return Age(self.ages[parents].masked_fill(changed, 0))

    def select(self, rows: Tensor | slice) -> Age:
        """The ages of some rows."""
        return Age(self.ages[rows])

    def followed_by(self, other: Age) -> Age:
        """The ages of two populations one after the other: parents and children, say."""
        return Age(torch.cat([self.ages, other.ages]))

    def values(self, population: Population, fitness: Tensor) -> Tensor:
        """Ages (P,) float64; `fitness` is not looked at.

        Raises:
            ValueError: another number of genomes than of ages.
        """
        if len(population) != len(self.ages):
            raise ValueError(
                f"Age: expected {len(self.ages)} genomes, one for each age, got {len(population)}"
            )
        return self.ages.double()
