"""The size of a genome as an objective: connections that are on, and hidden nodes, have a cost.

Source:
    Clune, Mouret and Lipson: The evolutionary origins of modularity (2013): connection costs as a
    second objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .population import Population

__all__ = ["Complexity"]


@dataclass(frozen=True)
class Complexity:
    """``connection · enabled connections + node · hidden nodes``.

    Attributes:
        connection: cost of an enabled connection.
        node: cost of a hidden node.
    """

    connection: float = 1.0
    node: float = 0.0

    def values(self, population: Population, fitness: Tensor) -> Tensor:
        """Cost (P,) float64 of every genome; `fitness` is not looked at."""
        enabled = (population.enabled & population.connection_mask).sum(1, dtype=torch.float64)
        hidden = population.node_mask.sum(1, dtype=torch.float64) - population.outputs
        return self.connection * enabled + self.node * hidden
