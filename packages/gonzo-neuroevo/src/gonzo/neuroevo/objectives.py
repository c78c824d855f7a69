"""What a multi-objective selection minimises: an objective gives every genome one number.

`objective_table` puts several beside each other for `gonzo.neuroevo.ranking`:

    table = objective_table([Complexity(), Reward()], population, fitness)
    survivors = population.select(select_best(table, len(population) // 2))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .population import Population

__all__ = ["Objective", "Reward", "objective_table"]


class Objective(Protocol):
    """One number for every genome, the smaller the better.

    What it must remember from one generation to the next, ages or an archive, it holds itself and
    never changes: the next generation has a new one.
    """

    def values(self, population: Population, fitness: Tensor) -> Tensor:
        """Judge a population.

        Args:
            population: P genomes.
            fitness: (P,) what their evaluation gave, the higher the better.

        Returns:
            (P,) to be minimised. Without NaN; a failure has infinity.
        """
        ...


class Reward:
    """Fitness as an objective: its negative."""

    def values(self, population: Population, fitness: Tensor) -> Tensor:
        """See `Objective`."""
        return -fitness


def objective_table(
    objectives: Sequence[Objective], population: Population, fitness: Tensor
) -> Tensor:
    """Put the values of several objectives beside each other.

    Args:
        objectives: n of them.
        population: P genomes.
        fitness: (P,)

    Returns:
        (P, n) float64 on the device of `fitness`.

    Raises:
        ValueError: no objectives, fitness of another shape, or an objective that returns another
            shape or NaN.
    """
    if not objectives:
        raise ValueError("objective_table: expected at least one objective, got none")
    if fitness.shape != (len(population),):
        raise ValueError(
            f"objective_table: expected fitness of shape ({len(population)},), one for each "
            f"genome, got {tuple(fitness.shape)}"
        )
    columns = []
    for objective in objectives:
        name = type(objective).__name__
        column = objective.values(population, fitness)
        if column.shape != fitness.shape:
            raise ValueError(
                f"objective_table: expected {name}.values of shape ({len(population)},), got "
                f"{tuple(column.shape)}"
            )
        column = column.detach().to(fitness.device, torch.float64)
        if column.isnan().any():
            row = int(column.isnan().int().argmax())
            raise ValueError(
                f"objective_table: {name}.values is NaN for genome {row}; give a failure infinity"
            )
        columns.append(column)
    return torch.stack(columns, 1)
